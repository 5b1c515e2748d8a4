"""From a configuration to a shard plan: everything that needs the tokenizer but no weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracer.aggregate.metadata import MetadataColumns
from tracer.config import CorpusConfig, RunConfig
from tracer.config.harvest import HarvestConfig
from tracer.corpus.corpus import Corpus, normalise
from tracer.corpus.prompt_files import FOLDER as CORPUS_FOLDER
from tracer.corpus.shards import Shard, plan_shards
from tracer.corpus.tokens import SpecialTokenRule, special_token_rule
from tracer.model.hub import at_commit, commit_of
from tracer.model.hub_reference import HubReference
from tracer.model.references import content_hash, pinned, resolve
from tracer.run.folder import inside_ray_job
from tracer.run.names import model_names
from tracer.run.origins import Origin, dataset_of, origin_of, origins_of_listed, pin_listed
from tracer.run.work import AnyConfig, Worker, WorkerMaker
from tracer.storage.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tracer.model.architectures import CheckpointFacts

SAE = "sae:"
"""In front of a reference, the name of an SAE's origin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What there is to do, and with which model: `model` holds the facts in which all workers of the run must agree,
    `model_names` what checkpoint and transcoders say of themselves, `origins` where they and the dataset came from.
    """

    corpus: Corpus
    shards: tuple[Shard, ...]
    model: dict[str, Any]
    model_names: dict[str, str | None] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a plan reads: the checkpoint's facts and tokenizer, and the corpus at the commit that it has now."""

    checkpoint: Path
    facts: "CheckpointFacts"
    tokenizer: "PreTrainedTokenizerBase"
    rule: SpecialTokenRule
    dataset: HubReference | None
    read_from: CorpusConfig


def plan(config: AnyConfig, store: Store) -> Plan:
    """Check model and transcoders by their headers, write the normalised corpus, cut it into shards.

    What lies on the hub is asked for first, all of it, and then read at the commit that it has now.

    Raises:
        ModelError: something on the hub cannot be read, or checkpoint or transcoders are absent, foreign, or do not fit
            each other.
        DataError: the corpus cannot be read or is empty.
        ConfigError: `aggregate.by` or `aggregate.stratify_by` names no column of the corpus.
    """
    assert isinstance(config, RunConfig)
    sources = opened(config)
    with store.working(CORPUS_FOLDER) as root:
        corpus = normalise(sources.read_from, sources.tokenizer, sources.rule, n_ctx=sources.facts.n_ctx, root=root)
        shards = tuple(plan_shards(corpus, root, config.runner.shard_size))
    corpus = replace(corpus, source=config.corpus.source)
    MetadataColumns.of(config.aggregate, corpus.metadata_columns)
    return finished_plan(config, sources, corpus, shards)


def opened(config: AnyConfig) -> Sources:
    """Ask for everything on the hub, check model and transcoders by their headers, and load the tokenizer.

    Raises:
        ModelError: as `plan`.
    """
    from tracer.model.architectures import checkpoint_facts
    from tracer.model.checks import check_repositories, check_transcoders
    from tracer.model.tokenizer import load_tokenizer

    dataset = dataset_of(config.corpus)
    check_repositories(config.model.checkpoint, config.model.transcoders, dataset)
    checkpoint = resolve(config.model.checkpoint)
    facts = checkpoint_facts(checkpoint)
    check_transcoders(config.model.checkpoint, config.model.transcoders)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code)
    pinned_source = config.corpus.source if dataset is None else str(at_commit(dataset))
    return Sources(
        checkpoint=checkpoint,
        facts=facts,
        tokenizer=tokenizer,
        rule=special_token_rule(tokenizer),
        dataset=dataset,
        read_from=config.corpus.model_copy(update={"source": pinned_source}),
    )


def finished_plan(config: AnyConfig, sources: Sources, corpus: Corpus, shards: tuple[Shard, ...]) -> Plan:
    """The plan over a corpus that is written, with the hashes and origins of everything.

    Args:
        config: the settings.
        sources: what was opened for them.
        corpus: the corpus under the name that the settings give it.
        shards: what it was cut into.
    """
    from tracer.model.readers.circuit_tracer import listed_elsewhere
    from tracer.model.readers.registry import set_hash

    transcoders = resolve(config.model.transcoders)
    origins = {
        "checkpoint": origin_of(config.model.checkpoint, content_hash(sources.checkpoint)),
        "transcoders": origin_of(config.model.transcoders, set_hash(transcoders)),
    }
    origins |= origins_of_listed(listed_elsewhere(transcoders), origins["transcoders"].content_hash)
    model = {
        "n_layers": sources.facts.n_layers,
        "model_hash": origins["checkpoint"].content_hash,
        "transcoders_hash": origins["transcoders"].content_hash,
    }
    if sources.dataset is not None:
        origins["dataset"] = Origin(
            reference=config.corpus.source, commit=commit_of(sources.dataset), content_hash=corpus.fingerprint
        )
    return Plan(
        corpus=corpus,
        shards=shards,
        model=model,
        model_names=model_names(config.model),
        origins=origins,
    )


def check_device(config: AnyConfig, *, inline: bool) -> None:
    """Look for the device where it can be told from here: on Ray, actors with a GPU may run on other machines.

    Raises:
        ModelError: this machine does not have it.
    """
    from tracer.model.device import resolve_device

    if inline or config.runner.gpus_per_actor == 0:
        resolve_device(config.model.device)


def for_workers(config: AnyConfig, origins: Mapping[str, Origin] | None = None) -> AnyConfig:
    """The configuration for workers: what lies on the hub at the commit that the run began with, and local paths made
    absolute, since a worker may have another working folder.

    Inside a Ray job local paths stay as they are, since every machine has its own copy of the job's working folder.

    Args:
        config: the settings as asked.
        origins: where the run's checkpoint and transcoders came from; none given: unknown.
    """
    asked = {"checkpoint": config.model.checkpoint, "transcoders": config.model.transcoders}
    given = {name: _for_worker(reference, (origins or {}).get(name)) for name, reference in asked.items()}
    update: dict[str, Any] = {"model": config.model.model_copy(update=given)}
    if isinstance(config, HarvestConfig):
        saes = [_for_worker(sae, (origins or {}).get(f"{SAE}{sae}")) for sae in config.harvest.saes]
        update["harvest"] = config.harvest.model_copy(update={"saes": saes})
    return config.model_copy(update=update)


def _for_worker(reference: str, origin: Origin | None) -> str:
    if origin is not None and origin.commit is not None:
        return pinned(reference, origin.commit)
    path = Path(reference).expanduser()
    return str(path.absolute()) if path.exists() and not inside_ray_job() else reference


def at_recorded_commits(make_worker: WorkerMaker, origins: Mapping[str, Origin]) -> WorkerMaker:
    """The same maker of workers, but what the transcoders list is read at the commits that the run began with.

    Args:
        make_worker: is called in the worker's process.
        origins: where everything of the run came from.
    """
    return partial(_make_pinned, make_worker, dict(origins))


def _make_pinned(make_worker: WorkerMaker, origins: Mapping[str, Origin], config: AnyConfig) -> Worker:
    pin_listed(origins)
    return make_worker(config)
