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
from typing import Literal

from jaxtyping import Int
from torch import Tensor

from tracer.attribution.graphs import DEFAULT_MEMORY_BUDGET_BYTES, Engine, graph_of
from tracer.attribution.precision import Precision
from tracer.attribution.prepared import prepare
from tracer.attribution.targets import TargetSpec
from tracer.errors import ConfigError
from tracer.graph.graph import Graph
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
    offload: Literal["cpu", "disk"] | None = None,
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
        offload: accepted for circuit-tracer's callers; no autograd graph is held here, so there is nothing to move.
        verbose: log progress at INFO level.
        update_interval: accepted for circuit-tracer's callers; ranking is renewed every round.
        coverage: share of the target weights whose influence is followed; 1.0 computes every row.
        memory_budget_bytes: working memory of the engine.
        node_threshold: where given, the graph holds only edges between nodes that pruning at this threshold keeps.
        precision: arithmetic of the large products: `float32`, `tf32` or `bfloat16`.
        engine: `explicit`, or `oracle` (autograd; slow, for checks); by default the first wherever the architecture is
            in the table, else the second with a warning.

    Raises:
        ConfigError: a setting is out of range.
        DataError: the prompt or a target cannot be used.
    """
    _check_settings(coverage, max_feature_nodes, batch_size)
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
        precision=precision, engine=engine or default_engine(model), verbose=verbose,
    )  # fmt: skip


def default_engine(model: ReplacementModel) -> Engine:
    """The explicit engine where it knows the architecture, else the oracle, with a warning."""
    if model.facts.explicit:
        return "explicit"
    warnings.warn(
        f"{model.facts.architecture_name} is not in the table of architectures: attribution falls back to autograd, "
        "which is exact but slow",
        stacklevel=3,
    )
    return "oracle"


def _check_settings(coverage: float, max_feature_nodes: int | None, batch_size: int | None) -> None:
    if not 0.0 < coverage <= 1.0:
        raise ConfigError(
            "attribute", found=f"coverage {coverage}", expected="a share in (0, 1]", to_do="Mend the setting."
        )
    for name, count in (("max_feature_nodes", max_feature_nodes), ("batch_size", batch_size)):
        if count is not None and count < 1:
            raise ConfigError(
                "attribute", found=f"{name} {count}", expected="a positive number", to_do="Mend the setting."
            )


def _given(targets: Sequence[TargetSpec] | Tensor | None) -> list[TargetSpec]:
    if targets is None:
        return []
    return targets.tolist() if isinstance(targets, Tensor) else list(targets)
