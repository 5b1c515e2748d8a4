"""The one-prompt door: `attribute(prompt, model)`."""

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, prepare
from tracer.attribution.schedule import Computed, compute_rows
from tracer.errors import ConfigError
from tracer.graph.graph import Graph
from tracer.model.replacement import Prompt, ReplacementModel
from tracer.model.tokenizer import token_text

logger = logging.getLogger(__name__)

DEFAULT_MEMORY_BUDGET_BYTES = 2 * 1024**3


def attribute(
    prompt: Prompt,
    model: ReplacementModel,
    *,
    attribution_targets: Sequence[int | str] | Int[Tensor, " target"] | None = None,
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
    batch_size: int | None = None,
    max_feature_nodes: int | None = None,
    offload: Literal["cpu", "disk"] | None = None,
    verbose: bool = False,
    update_interval: int | None = None,
    coverage: float = 1.0,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    engine: Literal["explicit", "oracle"] = "explicit",
) -> Graph:
    """Attribution graph of one prompt, unpruned.

    Args:
        prompt: text, token ids or a tensor of them; a special token is put in front when absent.
        model: the replacement model.
        attribution_targets: tokens (ids or strings) to attribute at the last position; the salient logits when not
            given.
        max_n_logits: at most this many salient logits.
        desired_logit_prob: probability mass that they reach.
        batch_size: rows computed at once; chosen from the memory budget when not given.
        max_feature_nodes: hard cap on feature rows, most influential first.
        offload: accepted for circuit-tracer's callers; no autograd graph is held here, so there is nothing to move.
        verbose: log progress at INFO level.
        update_interval: accepted for circuit-tracer's callers; ranking is renewed every round.
        coverage: share of the target weights whose influence is followed; 1.0 computes every row.
        memory_budget_bytes: working memory of the engine.
        engine: `explicit`, or `oracle` (autograd; slow, for checks).

    Raises:
        ConfigError: a setting is out of range.
        DataError: the prompt or a target cannot be used.

    Example:
        >>> from tracer import ReplacementModel, attribute
        >>> model = ReplacementModel.from_pretrained(
        ...     "package:tracer/model/demo/files/language_model", "package:tracer/model/demo/files/per_layer")
        >>> graph = attribute("the capital of the state containing Dallas is", model)
        >>> graph.targets[0].token
        'Austin'
    """
    _check_settings(coverage, max_feature_nodes, batch_size)
    prepared = prepare(
        model,
        model.tokenize(prompt),
        given_targets=_given(attribution_targets),
        max_n_logits=max_n_logits,
        desired_logit_prob=desired_logit_prob,
    )
    return graph_of(
        model, prepared, text=prompt if isinstance(prompt, str) else None, coverage=coverage, batch_size=batch_size,
        max_feature_nodes=max_feature_nodes, memory_budget_bytes=memory_budget_bytes, engine=engine, verbose=verbose,
    )  # fmt: skip


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


def _given(targets: Sequence[int | str] | Tensor | None) -> list[int | str]:
    if targets is None:
        return []
    return targets.tolist() if isinstance(targets, Tensor) else list(targets)


def graph_of(
    model: ReplacementModel,
    prepared: Prepared,
    *,
    text: str | None = None,
    coverage: float = 1.0,
    batch_size: int | None = None,
    max_feature_nodes: int | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    engine: Literal["explicit", "oracle"] = "explicit",
    verbose: bool = False,
) -> Graph:
    """Attribution graph of a prepared prompt; the arguments are those of `attribute`."""
    weights = torch.zeros(prepared.layout.n_nodes, dtype=prepared.errors.dtype)
    weights[prepared.layout.first_target :] = torch.tensor([target.weight for target in prepared.targets.targets])
    if engine == "oracle":
        rows_of = Oracle(model, prepared).rows
    else:
        explicit = ExplicitEngine(model, prepared, memory_budget_bytes=memory_budget_bytes)
        explicit.n_chunk_rows = batch_size or explicit.n_chunk_rows
        rows_of = explicit.rows

    def report(n_done: int, n_features: int) -> None:
        logger.info("attribution: %d of %d feature rows", n_done, n_features)

    with torch.set_grad_enabled(engine == "oracle"):
        computed = compute_rows(
            prepared.layout,
            weights,
            rows_of,
            coverage=coverage,
            max_feature_nodes=max_feature_nodes,
            progress=report if verbose else None,
        )
    return _assemble(model, prepared, computed, text)


def _assemble(model: ReplacementModel, prepared: Prepared, computed: Computed, text: str | None) -> Graph:
    layout = prepared.layout
    order = computed.row_nodes.argsort()
    row, source = computed.rows.weights[order].nonzero(as_tuple=True)
    has_row = torch.zeros(layout.n_nodes, dtype=torch.bool)
    has_row[computed.row_nodes] = True
    row_bias = torch.zeros(layout.n_nodes, dtype=computed.rows.bias.dtype)
    row_bias[computed.row_nodes] = computed.rows.bias
    token_ids = prepared.forward.token_ids.cpu()
    tokens = tuple(token_text(model.tokenizer, int(token_id)) for token_id in token_ids)
    return Graph(
        layout=layout,
        text=str(model.tokenizer.decode(token_ids[1:])) if text is None else text,
        token_ids=token_ids,
        tokens=tokens,
        targets=prepared.targets.targets,
        activations=prepared.activations.cpu(),
        edge_target=computed.row_nodes[order][row],
        edge_source=source,
        edge_weight=computed.rows.weights[order][row, source],
        has_row=has_row[: layout.n_features],
        row_bias=row_bias,
        node_mask=torch.ones(layout.n_nodes, dtype=torch.bool),
        influence=computed.influence,
        uncovered_influence=computed.uncovered_influence,
    )
