"""Which rows are computed: the most influential ones, until what is left uncovered is small, with a stated bound.

Influence flows from the targets down. With the rows known so far, every node's computed influence is a lower bound of
its true one, and the influence that sits on features without a row, `U` (as a share of the target weights), bounds what
is missing: `0 <= I - I_computed <= U`, because an absorbed random walk visits a node at most once. Each round computes
the rows of the fewest features that hold all but half of the allowed remainder, so the choice depends on influences
alone, not on how rows are batched.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.attribution.prepared import Rows
from tracer.graph.influence import influence, normalise_rows
from tracer.graph.layout import NodeLayout

N_CAPPED_ROUNDS = 8
"""Rounds over which a cap on rows is spent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """The computed part of the adjacency."""

    row_nodes: Int[Tensor, " row"]
    rows: Rows
    influence: Float[Tensor, " node"]
    uncovered_influence: float


def compute_rows(
    layout: NodeLayout,
    target_weights: Float[Tensor, " node"],
    rows_of: Callable[[Int[Tensor, " row"]], Rows],
    *,
    coverage: float,
    max_feature_nodes: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> Computed:
    """Rows of all targets and of as many features as `coverage` asks for.

    Args:
        layout: the prompt's nodes.
        target_weights: `w`, zero except at targets.
        rows_of: computes rows.
        coverage: share of the target weights whose influence is followed; 1.0 computes every row.
        max_feature_nodes: hard cap on feature rows, which may leave more uncovered.
        progress: called with feature rows done and feature rows there are.
    """
    n_allowed = layout.n_features if max_feature_nodes is None else min(max_feature_nodes, layout.n_features)
    # Where the cap binds, features are ranked anew after each part of it: before that, only direct effects are known.
    n_round = n_allowed if n_allowed == layout.n_features else -(-n_allowed // N_CAPPED_ROUNDS)
    row_nodes = torch.arange(layout.first_target, layout.n_nodes)
    rows = rows_of(row_nodes)
    has_row = torch.zeros(layout.n_features, dtype=torch.bool)
    total_weight = float(target_weights.sum())
    while True:
        reach = influence(normalise_rows(rows.weights), row_nodes, target_weights)
        waiting = torch.where(has_row, 0.0, reach[: layout.n_features])
        uncovered = float(waiting.sum()) / total_weight
        n_left = n_allowed - int(has_row.sum())
        done = uncovered <= 1.0 - coverage if coverage < 1.0 else bool(has_row.all())
        if done or n_left <= 0:
            return Computed(row_nodes=row_nodes, rows=rows, influence=reach, uncovered_influence=uncovered)
        chosen = _choose(waiting, has_row, 0.5 * (1.0 - coverage) * total_weight, coverage >= 1.0)[
            : min(n_left, n_round)
        ]
        has_row[chosen] = True
        found = rows_of(chosen)
        rows = Rows(weights=torch.cat([rows.weights, found.weights]), bias=torch.cat([rows.bias, found.bias]))
        row_nodes = torch.cat([row_nodes, chosen])
        if progress is not None:
            progress(int(has_row.sum()), layout.n_features)


def _choose(
    waiting: Float[Tensor, " feature"], has_row: Bool[Tensor, " feature"], remainder: float, exact: bool
) -> Int[Tensor, " chosen"]:
    """Features without a row, most influential first, until at most `remainder` is left; all of them when `exact`."""
    values, order = waiting.sort(descending=True, stable=True)
    candidates = ~has_row[order] & (exact | (values > 0))
    left_after = values.sum() - values.cumsum(0)
    n_needed = int((left_after > remainder).sum()) + 1
    return order[candidates][: None if exact else n_needed]
