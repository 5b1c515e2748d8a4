"""Where model, transcoders and dataset came from, so that all workers and drivers of a run read the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tracer.config import CorpusConfig
from tracer.corpus.datasets_source import hub_dataset
from tracer.model.hub import commit_of, pin
from tracer.model.hub_reference import HubReference, parse_hub_reference
from tracer.model.references import repository_of

_LISTED = "listed:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A reference as asked, the commit that it named when the run began (None for what is local), and the hash of the
    files; of a dataset, that of the prompts, and of a repository that the transcoders list, that of their whole set.
    """

    reference: str
    commit: str | None
    content_hash: str


def origin_of(reference: str, content_hash: str) -> Origin:
    """The origin of a checkpoint or of transcoders.

    Args:
        reference: as for `tracer.model.references.resolve`.
        content_hash: hash of its files.

    Raises:
        ModelError: the reference leads nowhere.
    """
    on_hub = repository_of(reference)
    return Origin(reference=reference, commit=None if on_hub is None else commit_of(on_hub), content_hash=content_hash)


def origins_of_listed(entries: Sequence[str], content_hash: str) -> dict[str, Origin]:
    """The origins of repositories that transcoders list in their `config.yaml`, one for each and its revision.

    Args:
        entries: references to files, as `tracer.model.readers.circuit_tracer.listed_elsewhere` gives them.
        content_hash: hash of the set, whose files they are.

    Raises:
        ModelError: an entry is no reference, or its repository cannot be read.
    """
    repositories = dict.fromkeys(replace(parse_hub_reference(entry), inner="") for entry in entries)
    return {
        f"{_LISTED}{repository}": Origin(
            reference=str(repository), commit=commit_of(repository), content_hash=content_hash
        )
        for repository in repositories
    }


def pin_listed(origins: Mapping[str, Origin]) -> None:
    """Let the repositories of `origins_of_listed` mean their recorded commits for the rest of the process.

    Args:
        origins: those of a run.
    """
    for name, origin in origins.items():
        if name.startswith(_LISTED) and origin.commit is not None:
            pin(parse_hub_reference(origin.reference), origin.commit)


def dataset_of(config: CorpusConfig) -> HubReference | None:
    """The dataset on the hub that a corpus is read from; None for any other source.

    Args:
        config: the corpus settings.
    """
    named = hub_dataset(config.source)
    return None if named is None else HubReference(repository=named[0], revision=named[1], kind="dataset")
