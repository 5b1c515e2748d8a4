"""From a configuration to a shard plan: everything that needs the tokenizer but no weights."""

from dataclasses import dataclass, field
from pathlib import Path

from tracer.aggregate.metadata import metadata_names, stratum_column
from tracer.config import RunConfig
from tracer.corpus.corpus import Corpus, normalise
from tracer.corpus.shards import Shard, plan_shards
from tracer.corpus.tokens import special_token_rule
from tracer.run.folder import RunFolder, inside_ray_job
from tracer.run.names import model_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What there is to do, and with which model: `model` holds the facts in which all workers of the run must agree,
    `model_names` what checkpoint and transcoders say of themselves.
    """

    corpus: Corpus
    shards: tuple[Shard, ...]
    model: dict[str, str | int]
    model_names: dict[str, str | None] = field(default_factory=dict)


def plan(config: RunConfig, folder: RunFolder) -> Plan:
    """Check model and transcoders by their headers, write the normalised corpus, cut it into shards.

    Raises:
        ModelError: checkpoint or transcoders are absent, foreign, or do not fit each other.
        DataError: the corpus cannot be read or is empty.
        ConfigError: `aggregate.stratify_by` names no column of the corpus.
    """
    from tracer.model.architectures import checkpoint_facts
    from tracer.model.checks import check_transcoders
    from tracer.model.references import content_hash, resolve
    from tracer.model.tokenizer import load_tokenizer

    checkpoint, transcoders = resolve(config.model.checkpoint), resolve(config.model.transcoders)
    facts = checkpoint_facts(checkpoint)
    check_transcoders(config.model.checkpoint, config.model.transcoders)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code=config.model.trust_remote_code)
    rule = special_token_rule(tokenizer)
    corpus = normalise(config.corpus, tokenizer, rule, n_ctx=facts.n_ctx, root=folder.root)
    stratum_column(config.aggregate.stratify_by, metadata_names(corpus.metadata_columns))
    return Plan(
        corpus=corpus,
        shards=tuple(plan_shards(corpus, folder.root, config.runner.shard_size)),
        model={
            "n_layers": facts.n_layers,
            "model_hash": content_hash(checkpoint),
            "transcoders_hash": content_hash(transcoders),
        },
        model_names=model_names(config.model),
    )


def check_device(config: RunConfig, *, inline: bool) -> None:
    """Look for the device where it can be told from here: on Ray, actors with a GPU may run on other machines.

    Raises:
        ModelError: this machine does not have it.
    """
    from tracer.model.device import resolve_device

    if inline or config.runner.gpus_per_actor == 0:
        resolve_device(config.model.device)


def for_workers(config: RunConfig) -> RunConfig:
    """The configuration with local model folders made absolute: a worker may have another working folder.

    Inside a Ray job they stay as they are, since every machine has its own copy of the job's working folder.
    """
    if inside_ray_job():
        return config
    references = {"checkpoint": config.model.checkpoint, "transcoders": config.model.transcoders}
    absolute = {
        name: str(Path(path).expanduser().absolute())
        for name, path in references.items()
        if Path(path).expanduser().is_dir()
    }
    return config.model_copy(update={"model": config.model.model_copy(update=absolute)})
