"""Scores of a graph: how much of the computation its features and tokens explain, against its errors.

`replacement = sum I[tokens] / (sum I[tokens] + sum I[errors])`;
`completeness = sum_i (1 - sum_{j in errors} Ahat[i, j]) (I + w)_i / sum_i (I + w)_i` (Ameisen et al. 2025).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tracer.graph.influence import normalise_edges
from tracer.graph.layout import NodeKind

if TYPE_CHECKING:
    from tracer.graph.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Both in [0, 1]; 1 means that no error takes part."""

    replacement: float
    completeness: float


def scores(graph: "Graph") -> Scores:
    """Scores of an unpruned graph."""
    layout, reach = graph.layout, graph.influence
    is_error = layout.is_kind(NodeKind.error)
    tokens, errors = reach[layout.is_kind(NodeKind.token)].sum(), reach[is_error].sum()
    normalised = normalise_edges(graph.edge_target, graph.edge_weight, layout.n_nodes)
    from_error = torch.where(is_error[graph.edge_source], normalised, 0.0)
    error_share = torch.zeros_like(reach).index_add_(0, graph.edge_target, from_error)
    importance = reach + graph.target_weights
    completeness = ((1 - error_share) * importance).sum() / importance.sum()
    return Scores(replacement=float(tokens / (tokens + errors)), completeness=float(completeness))
