"""The one-prompt door: `attribute(prompt, model)`.

Example:
    >>> from tracer import ReplacementModel, attribute
    >>> model = ReplacementModel.from_pretrained(
    ...     "package:tracer/model/demo/files/language_model", "package:tracer/model/demo/files/per_layer")
    >>> graph = attribute("the capital of the state containing Dallas is", model)
    >>> graph.targets[0].token
    'Austin'
"""

import warnings
from collections.abc import Sequence
from typing import get_args

from jaxtyping import Int
from torch import Tensor

from tracer.attribution.graphs import DEFAULT_MEMORY_BUDGET_BYTES, Engine, graph_of
from tracer.attribution.precision import Precision
from tracer.attribution.prepared import prepare
from tracer.attribution.targets import TargetSpec
from tracer.errors import ConfigError
from tracer.graph.graph import Graph
from tracer.model.offload import Offload
from tracer.model.replacement import Prompt, ReplacementModel


def attribute(
    prompt: Prompt,
    model: ReplacementModel,
    *,
    attribution_targets: Sequence[TargetSpec] | Int[Tensor, " target"] | None = None,
    positions: Sequence[int] = (-1,),
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
    batch_size: int | None = None,
    max_feature_nodes: int | None = None,
    offload: Offload | None = None,
    verbose: bool = False,
    update_interval: int | None = None,
    coverage: float = 1.0,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    node_threshold: float | None = None,
    precision: Precision = "float32",
    engine: Engine | None = None,
) -> Graph:
    """Attribution graph of one prompt, unpruned.

    Args:
        prompt: text, token ids or a tensor of them; a special token is put in front when absent.
        model: the replacement model.
        attribution_targets: what to attribute: tokens (ids or strings, at the last position) or any of the kinds in
            `tracer.attribution.targets`; the salient logits when not given.
        positions: where the salient logits are taken; negative ones count from the end.
        max_n_logits: at most this many salient logits a position.
        desired_logit_prob: probability mass that they reach.
        batch_size: rows computed at once; chosen from the memory budget when not given.
        max_feature_nodes: hard cap on feature rows, most influential first.
        verbose: log progress at INFO level.
        offload: where the model's weights that rows do not need lie meanwhile: host memory or a file without a name.
        update_interval: accepted for circuit-tracer's callers; without effect.
        coverage: least share of the target weights whose influence is followed; 1.0 computes every row.
        memory_budget_bytes: working memory, half of it for rows that are held.
        node_threshold: where given, the graph holds only edges between nodes that pruning at this threshold keeps.
        precision: arithmetic of the large products: `float32`, `tf32` or `bfloat16`.
        engine: `explicit`, or `oracle` (autograd; slow); by default the first where it knows the architecture.

    Raises:
        ConfigError: a setting is out of range.
        DataError: the prompt or a target cannot be used.
    """
    _check_settings(coverage, node_threshold, max_feature_nodes, batch_size, memory_budget_bytes, precision, engine)
    prepared = prepare(
        model,
        model.tokenize(prompt),
        given_targets=_given(attribution_targets),
        positions=positions,
        max_n_logits=max_n_logits,
        desired_logit_prob=desired_logit_prob,
    )
    return graph_of(
        model, prepared, text=prompt if isinstance(prompt, str) else None, coverage=coverage, batch_size=batch_size,
        max_feature_nodes=max_feature_nodes, memory_budget_bytes=memory_budget_bytes, node_threshold=node_threshold,
        precision=precision, offload=offload, engine=default_engine(model, engine), verbose=verbose,
    )  # fmt: skip


def default_engine(model: ReplacementModel, asked: Engine | None = None) -> Engine:
    """The engine asked for; else the explicit one where it knows the architecture, and the oracle with a warning.

    Raises:
        ConfigError: the explicit engine is asked for and does not know the architecture.
    """
    name = model.facts.architecture_name
    if model.facts.explicit or asked == "oracle":
        return asked or "explicit"
    if asked is not None:
        raise ConfigError(
            "attribute", found=f"engine {asked!r} for {name}", expected="an architecture of the table",
            to_do="Leave the engine out; autograd does it then.",
        )  # fmt: skip
    warnings.warn(
        f"{name} is not in the table of architectures: attribution falls back to autograd, which is exact but slow",
        stacklevel=3,
    )
    return "oracle"


def _check_settings(
    coverage: float, node_threshold: float | None, max_feature_nodes: int | None, batch_size: int | None,
    memory_budget_bytes: int, precision: str, engine: str | None,
) -> None:  # fmt: skip
    found = [
        (f"coverage {coverage}", 0.0 < coverage <= 1.0, "a share in (0, 1]"),
        (f"node_threshold {node_threshold}", node_threshold is None or 0.0 <= node_threshold <= 1.0, "a share"),
        (f"max_feature_nodes {max_feature_nodes}", max_feature_nodes is None or max_feature_nodes > 0, "at least 1"),
        (f"batch_size {batch_size}", batch_size is None or batch_size > 0, "at least 1"),
        (f"memory_budget_bytes {memory_budget_bytes}", memory_budget_bytes > 0, "at least 1"),
        (f"precision {precision!r}", precision in get_args(Precision), " or ".join(get_args(Precision))),
        (f"engine {engine!r}", engine is None or engine in get_args(Engine), " or ".join(get_args(Engine))),
    ]
    for setting, is_good, expected in found:
        if not is_good:
            raise ConfigError("attribute", found=setting, expected=expected, to_do="Mend the setting.")


def _given(targets: Sequence[TargetSpec] | Tensor | None) -> list[TargetSpec]:
    if targets is None:
        return []
    return targets.tolist() if isinstance(targets, Tensor) else list(targets)
