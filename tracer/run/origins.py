"""Where model, transcoders and dataset came from, so that all workers and drivers of a run read the same."""

from dataclasses import dataclass

from tracer.config import CorpusConfig
from tracer.corpus.datasets_source import hub_dataset
from tracer.model.hub import commit_of
from tracer.model.hub_reference import HubReference
from tracer.model.references import hub_reference


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A reference as asked, the commit that it named when the run began (None for what is local), and the hash of the
    files; of a dataset, that of the prompts.
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
    on_hub = hub_reference(reference)
    return Origin(reference=reference, commit=None if on_hub is None else commit_of(on_hub), content_hash=content_hash)


def dataset_of(config: CorpusConfig) -> HubReference | None:
    """The dataset on the hub that a corpus is read from; None for any other source.

    Args:
        config: the corpus settings.
    """
    named = hub_dataset(config.source)
    return None if named is None else HubReference(repository=named[0], revision=named[1], kind="dataset")
