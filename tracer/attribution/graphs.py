"""From prepared prompts to their attribution graphs, several prompts in one pass."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from tracer.attribution.accounted import Accounted, target_weights
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.kept_rows import KeptRows
from tracer.attribution.oracle import Oracle
from tracer.attribution.precision import Precision
from tracer.attribution.prepared import Prepared
from tracer.attribution.schedule import NodeRequest, NodeRows, PromptRows, RowsOf, compute_rows
from tracer.attribution.together import account_together, room_for, side_by_side
from tracer.errors import ConfigError
from tracer.graph.graph import Graph
from tracer.graph.pruning import rank
from tracer.model.offload import Offload
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text

logger = logging.getLogger(__name__)

DEFAULT_MEMORY_BUDGET_BYTES = 2 * 1024**3
Engine = Literal["explicit", "oracle"]
EVERY_ROW_FLOPS = 1e9
"""Arithmetic that takes about as long as the many small operations of choosing rows layer by layer; measured."""
EVERY_ROW_BYTES = 16 * 1024**2
"""Largest rows of a prompt that are held together before they are accounted for."""


def graph_of(model: ReplacementModel, prepared: Prepared, *, text: str | None = None, **settings: Any) -> Graph:
    """Attribution graph of one prepared prompt; settings are those of `graphs_of`."""
    return graphs_of(model, [prepared], texts=[text], **settings)[0]


@torch.no_grad()
def graphs_of(
    model: ReplacementModel,
    prompts: Sequence[Prepared],
    *,
    texts: Sequence[str | None] | None = None,
    coverage: float = 1.0,
    batch_size: int | None = None,
    max_feature_nodes: int | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    node_threshold: float | None = None,
    precision: Precision = "float32",
    offload: Offload | None = None,
    every_row_flops: float = EVERY_ROW_FLOPS,
    engine: Engine = "explicit",
    verbose: bool = False,
) -> list[Graph]:
    """Attribution graphs of prepared prompts.

    Args:
        model: the replacement model.
        prompts: the prompts, whose rows are computed in common passes.
        texts: their texts; decoded from the tokens where None.
        coverage: least share of the target weights whose influence is followed; 1.0 computes every row.
        batch_size: most rows computed at once; chosen from the memory budget when not given.
        max_feature_nodes: hard cap on feature rows of a prompt, most influential first as known at their layer.
        memory_budget_bytes: working memory: half for the rows at work, half for rows that are held.
        node_threshold: where given, only edges between nodes that pruning keeps are made, within the budget; else all.
        precision: arithmetic of the large products.
        offload: where weights that rows do not need lie meanwhile; the oracle needs all of them.
        every_row_flops: a prompt whose rows take no more arithmetic gets all of them in one sweep; 0 always chooses.
        engine: `explicit`, or `oracle` (autograd; slow, for checks and for architectures not in the table).
        verbose: log progress at INFO level.

    Raises:
        ConfigError: every edge is asked for and they do not fit in the memory budget.
    """
    settings = _Settings(
        coverage=coverage, batch_size=batch_size, max_feature_nodes=max_feature_nodes, precision=precision,
        memory_budget_bytes=memory_budget_bytes, node_threshold=node_threshold, engine=engine, verbose=verbose,
    )  # fmt: skip
    may_be_whole = engine == "explicit" and max_feature_nodes is None
    is_whole = [may_be_whole and _is_small(model, prepared, every_row_flops) for prepared in prompts]
    room_bytes = memory_budget_bytes // 4
    small = [idx for idx, prepared in enumerate(prompts) if is_whole[idx] and room_for(prepared) <= room_bytes]
    others = [idx for idx in range(len(prompts)) if idx not in small]
    accounted: dict[int, Accounted] = {}
    with _away(model, offload, engine), torch.set_grad_enabled(engine == "oracle"):
        for which in side_by_side(prompts, small, room_bytes):
            explicit = _explicit(model, [prompts[idx] for idx in which], settings, side_by_side=True)
            accounted |= zip(which, account_together(explicit, node_threshold), strict=True)
            if verbose:
                _report_all([prompts[idx] for idx in which])
        if others:
            found = _account(model, [prompts[idx] for idx in others], [is_whole[idx] for idx in others], settings)
            accounted |= zip(others, found, strict=True)
    return [
        _graph(model, prepared, accounted[idx], text)
        for idx, (prepared, text) in enumerate(zip(prompts, texts or [None] * len(prompts), strict=True))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """Those of `graphs_of` that its parts read."""

    coverage: float
    batch_size: int | None
    max_feature_nodes: int | None
    memory_budget_bytes: int
    node_threshold: float | None
    precision: Precision
    engine: Engine
    verbose: bool


def _account(
    model: ReplacementModel, prompts: Sequence[Prepared], is_whole: Sequence[bool], settings: _Settings
) -> list[Accounted]:
    """What the rows of each prompt come to, chosen layer by layer; all of them where a prompt is wanted whole."""
    coverages = [1.0 if whole else settings.coverage for whole in is_whole]
    rows_of = _rows_of(model, prompts, settings, min(coverages) if settings.max_feature_nodes is None else None)
    states = [
        PromptRows(
            layout=prepared.layout,
            target_weights=target_weights(prepared),
            coverage=coverage,
            max_feature_nodes=settings.max_feature_nodes,
            kept=KeptRows(prepared.layout, settings.memory_budget_bytes // (2 * len(prompts))),
        )
        for prepared, coverage in zip(prompts, coverages, strict=True)
    ]
    compute_rows(states, rows_of, progress=_report if settings.verbose else None)
    wanted = [_wanted(state, settings.node_threshold) for state in states]
    _compute_again(states, wanted, rows_of, settings.memory_budget_bytes)
    del rows_of  # what it holds is not needed while edges are made
    return [state.accounted(mask) for state, mask in zip(states, wanted, strict=True)]


def _explicit(model: ReplacementModel, prompts: Sequence[Prepared], settings: _Settings, **ways: Any) -> ExplicitEngine:
    return ExplicitEngine(
        model, *prompts, memory_budget_bytes=settings.memory_budget_bytes // 2, n_chunk_rows=settings.batch_size,
        precision=settings.precision, **ways,
    )  # fmt: skip


def _rows_of(
    model: ReplacementModel, prompts: Sequence[Prepared], settings: _Settings, coverage: float | None
) -> RowsOf:
    if settings.engine == "explicit":
        return _explicit(model, prompts, settings, coverage=coverage).node_rows
    oracles = [Oracle(model, prepared) for prepared in prompts]

    def rows_of(requests: Sequence[NodeRequest]) -> Iterator[NodeRows]:
        for prompt, nodes in requests:
            rows = oracles[prompt].rows(nodes)
            device = prompts[prompt].errors.device
            yield prompt, nodes, rows.weights.T.to(device), rows.bias.to(device)

    return rows_of


def _away(model: ReplacementModel, offload: Offload | None, engine: Engine) -> AbstractContextManager[None]:
    return model.offloaded(offload).away() if offload and engine == "explicit" else nullcontext()


def _is_small(model: ReplacementModel, prepared: Prepared, every_row_flops: float) -> bool:
    layout = prepared.layout
    n_bytes = 4 * layout.n_features * layout.n_nodes
    return sweep_flops(model, prepared) <= every_row_flops and n_bytes <= EVERY_ROW_BYTES


def sweep_flops(model: ReplacementModel, prepared: Prepared) -> float:
    """Arithmetic of the products with weights when every row of a prompt goes through every layer."""
    W_O = model.weights.layers[0].W_O
    columns = float((prepared.layout.features[:, 1] + 1 - prepared.n_ignored).sum())
    return 4.0 * columns * model.n_layers * W_O.shape[0] * W_O.shape[1] * W_O.shape[2]


def _report_all(prompts: Sequence[Prepared]) -> None:
    n_features = sum(prepared.layout.n_features for prepared in prompts)
    _report(n_features, n_features)


def _report(n_done: int, n_features: int) -> None:
    logger.info("attribution: %d of %d feature rows", n_done, n_features)


def _wanted(state: PromptRows, node_threshold: float | None) -> Bool[Tensor, " node"] | None:
    """Nodes whose edges are wanted; None where all are."""
    if node_threshold is None:
        return None
    mask = rank(state.tracked.influence.float().cpu(), node_threshold).kept
    mask[state.layout.first_token :] = True
    return mask


def _compute_again(
    states: Sequence[PromptRows], wanted: Sequence[Tensor | None], rows_of: RowsOf, memory_budget_bytes: int
) -> None:
    """Rows that were let go for want of memory and are in the graph after all."""
    for idx, (state, mask) in enumerate(zip(states, wanted, strict=True)):
        gone, state.kept.let_go = state.kept.let_go, []
        if not gone:
            continue
        if mask is None:
            n_rows = sum(map(len, gone))
            raise ConfigError(
                "memory_budget_bytes",
                found=f"{memory_budget_bytes} bytes, too few for {n_rows} of the rows",
                expected="room for every edge",
                to_do="Give node_threshold, which keeps edges between kept nodes only, or a larger budget.",
            )
        for nodes in gone:
            needed = nodes[mask[nodes]]
            for _, found, weights, _ in rows_of([(idx, needed)]) if len(needed) else ():
                state.kept.add_sparse(found, weights.cpu(), mask)


def _graph(model: ReplacementModel, prepared: Prepared, accounted: Accounted, text: str | None) -> Graph:
    token_ids = prepared.forward.token_ids.cpu()
    return Graph(
        layout=prepared.layout,
        text=str(model.tokenizer.decode(token_ids[1:])) if text is None else text,
        token_ids=token_ids,
        tokens=tuple(token_text(model.tokenizer, int(token_id)) for token_id in token_ids),
        targets=prepared.targets.targets,
        activations=prepared.activations.cpu(),
        edge_target=accounted.edge_target,
        edge_source=accounted.edge_source,
        edge_weight=accounted.edge_weight,
        has_row=accounted.has_row,
        row_bias=accounted.row_bias,
        error_share=accounted.error_share,
        node_mask=accounted.node_mask,
        influence=accounted.influence,
        uncovered_influence=accounted.uncovered_influence,
    )
