"""From the configuration of a harvest to a shard plan: documents written once, cut into shards by their windows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tracer.aggregate.harvest.chosen import features_to_pair
from tracer.config.harvest import HarvestConfig, WindowConfig
from tracer.corpus.corpus import Corpus, normalise
from tracer.corpus.prompt_files import FOLDER as CORPUS_FOLDER
from tracer.corpus.prompt_files import read_lengths
from tracer.corpus.prompts import Prompt, hash_ids
from tracer.corpus.shards import Shard
from tracer.corpus.tokens import SpecialTokenRule
from tracer.corpus.windows import n_windows_of
from tracer.errors import ConfigError
from tracer.run.origins import Origin, origin_of
from tracer.run.plan import SAE, Plan, Sources, finished_plan, opened
from tracer.run.work import AnyConfig
from tracer.storage.store import Store

NO_LIMIT = 2**62
"""Longest document, tokens."""


class WindowBudget:
    """Lets documents through until the windows are used up; the last one is cut to those that are left."""

    def __init__(self, settings: WindowConfig, rule: SpecialTokenRule) -> None:
        self._settings, self._rule = settings, rule
        self._n_left = settings.limit

    @property
    def is_spent(self) -> bool:
        """Whether no window is left."""
        return self._n_left == 0

    def take(self, document: Prompt) -> Prompt:
        """The document, as long as there are windows for it."""
        if self._n_left is None:
            return document
        n_front = int(document.token_ids[0] in self._rule.special_ids)
        size = self._settings.window_tokens - n_front
        n_windows = n_windows_of(
            len(document.token_ids), has_front=bool(n_front), window_tokens=self._settings.window_tokens
        )
        if n_windows > self._n_left:
            document = replace(document, token_ids=document.token_ids[: n_front + self._n_left * size])
            n_windows = self._n_left
        self._n_left -= n_windows
        return document


def plan_harvest(config: AnyConfig, store: Store) -> Plan:
    """Check model, transcoders and SAEs by their headers, write the documents, cut them into shards.

    Raises:
        ModelError: as `tracer.run.plan.plan`; an SAE too.
        DataError: the corpus cannot be read or is empty.
        ConfigError: windows are longer than the model's context, or two SAEs are of one layer.
    """
    from tracer.model.tokenizer import token_separator

    assert isinstance(config, HarvestConfig)
    sources, windows = opened(config), config.harvest.windows
    if windows.window_tokens > sources.facts.n_ctx:
        raise ConfigError(
            "harvest.windows.window_tokens", found=str(windows.window_tokens),
            expected=f"at most the model's context, {sources.facts.n_ctx}", to_do="Make windows shorter.",
        )  # fmt: skip
    read_from = sources.read_from
    if not windows.packed and read_from.truncate == "no":
        read_from = read_from.model_copy(update={"truncate": "right"})
    with store.working(CORPUS_FOLDER) as root:
        corpus = normalise(
            read_from,
            sources.tokenizer,
            sources.rule,
            n_ctx=NO_LIMIT if windows.packed else windows.window_tokens,
            root=root,
            budget=WindowBudget(windows, sources.rule),
        )
        shards = tuple(window_shards(corpus, root, config.runner.shard_size, windows.window_tokens, sources.rule))
    origins, n_features = _of_features(config, sources)
    plan = finished_plan(config, sources, replace(corpus, source=config.corpus.source), shards)
    model = plan.model | {
        "n_features": [list(pair) for pair in sorted(n_features.items())],
        "token_separator": token_separator(sources.tokenizer),
    }
    if origins:
        model["transcoders_hash"] = hash_ids(origin.content_hash for origin in origins.values())
    pairs = features_to_pair(config.harvest.coactivation, n_features, model["transcoders_hash"])
    model["paired_features"] = [list(pair) for pair in pairs]
    return replace(plan, model=model, origins={**plan.origins, **origins})


def window_shards(
    corpus: Corpus, root: Path, n_windows: int, window_tokens: int, rule: SpecialTokenRule
) -> Iterator[Shard]:
    """Whole documents of a corpus in shards, in order; each takes documents until it has `n_windows` windows.

    Args:
        corpus: the documents.
        root: the folder in which its files lie.
        n_windows: windows of a shard, exceeded by its last document alone.
        window_tokens: longest window.
        rule: which tokens are special.

    Raises:
        ArtifactError: a file is absent or damaged.
    """
    for file in corpus.files:
        held: list[str] = []
        start, n_held = 0, 0
        for document_id, n_tokens, first_id in read_lengths(root, file):
            held.append(document_id)
            n_held += n_windows_of(n_tokens, has_front=first_id in rule.special_ids, window_tokens=window_tokens)
            if n_held >= n_windows:
                yield _shard(held, file, start, n_held)
                start, held, n_held = start + len(held), [], 0
        if held:
            yield _shard(held, file, start, n_held)


def _shard(document_ids: list[str], file: str, start: int, n_windows: int) -> Shard:
    return Shard(
        shard_id=hash_ids(document_ids), file=file, start=start, n_prompts=len(document_ids), n_windows=n_windows
    )


def _of_features(config: HarvestConfig, sources: Sources) -> tuple[Mapping[str, Origin], dict[int, int]]:
    """Origins of SAEs, none without them, and the number of features of each layer that is harvested."""
    from tracer.model.dictionaries import described_dictionary
    from tracer.model.readers.registry import describe_transcoders
    from tracer.model.references import content_hash, resolve

    origins: dict[str, Origin] = {}
    if not config.harvest.saes:
        files = describe_transcoders(resolve(config.model.transcoders), sources.facts)
        n_features = {layer: found.W_dec.shape[0] for layer, found in enumerate(files.layers)}
    else:
        n_features = {}
        for reference in config.harvest.saes:
            layer, n = described_dictionary(reference, sources.facts)
            if layer in n_features:
                raise ConfigError(
                    "harvest.saes", found=f"two SAEs of layer {layer}", expected="one a layer",
                    to_do="Harvest them in folders apart.",
                )  # fmt: skip
            n_features[layer] = n
            origins[f"{SAE}{reference}"] = origin_of(reference, content_hash(resolve(reference)))
    wanted = config.harvest.layers
    absent = set(wanted or ()) - n_features.keys()
    if absent:
        raise ConfigError(
            "harvest.layers", found=f"layer {min(absent)}", expected=f"one of {', '.join(map(str, n_features))}",
            to_do="Name layers that have features.",
        )  # fmt: skip
    return origins, {layer: n for layer, n in n_features.items() if wanted is None or layer in wanted}
