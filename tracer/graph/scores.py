"""Scores of a graph: how much of the computation its features and tokens explain, against its errors.

`replacement = sum I[tokens] / (sum I[tokens] + sum I[errors])`;
`completeness = sum_i (1 - sum_{j in errors} Ahat[i, j]) (I + w)_i / sum_i (I + w)_i` (Ameisen et al. 2025).

A subgraph is scored with every feature outside it counted as an error: the walk that defines influence ends there, and
`Ahat` keeps the row sums of the whole graph. So both scores say what the chosen features alone explain, effects do not
cancel between a feature left out and an error, and choosing more never lowers the replacement score.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.errors import DataError
from tracer.graph.influence import edge_influence, normalise_edges
from tracer.graph.layout import NodeKind

if TYPE_CHECKING:
    from tracer.graph.graph import Graph


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Both in [0, 1]; 1 means that no error takes part. NaN where no influence says anything: for `replacement`, where
    it all ends in features without sources.
    """

    replacement: float
    completeness: float


def scores(graph: "Graph", chosen: Bool[Tensor, " node"] | None = None) -> Scores:
    """Scores of an unpruned graph, or of a subgraph of it.

    Args:
        graph: the unpruned graph.
        chosen: the features of the subgraph; what it says of tokens, errors and targets is not looked at. All features
            when not given.

    Raises:
        DataError: `chosen` is not about the nodes of this graph, or the graph was pruned, so that edges are missing.
    """
    layout, reach, error_share = graph.layout, graph.influence, graph.error_share
    is_error = layout.is_kind(NodeKind.error)
    if chosen is not None:
        is_error = is_error | (layout.is_kind(NodeKind.feature) & ~_checked(chosen, graph))
        normalised = normalise_edges(graph.edge_target, graph.edge_weight, layout.n_nodes)
        normalised = torch.where(is_error[graph.edge_target], 0.0, normalised)
        reach = edge_influence(graph.edge_target, graph.edge_source, normalised, graph.target_weights)
        error_share = share_from(is_error, graph.edge_target, graph.edge_source, normalised)
    tokens, errors = reach[layout.is_kind(NodeKind.token)].sum(), reach[is_error].sum()
    importance = reach + graph.target_weights
    completeness = ((1 - error_share) * importance).sum() / importance.sum()
    return Scores(replacement=float(tokens / (tokens + errors)), completeness=float(completeness))


def share_from(
    nodes: Bool[Tensor, " node"],
    edge_target: Int[Tensor, " edge"],
    edge_source: Int[Tensor, " edge"],
    normalised: Float[Tensor, " edge"],
) -> Float[Tensor, " node"]:
    """Per target, the share of its normalised edges whose source is in `nodes`."""
    chosen = torch.where(nodes[edge_source], normalised, 0.0)
    return torch.zeros(len(nodes), dtype=normalised.dtype).index_add_(0, edge_target, chosen)


def _checked(chosen: Bool[Tensor, " node"], graph: "Graph") -> Bool[Tensor, " node"]:
    n_nodes = graph.layout.n_nodes
    if len(chosen) != n_nodes:
        raise DataError(
            "subgraph", found=f"a mask of {len(chosen)} nodes", expected=f"one of all {n_nodes} nodes",
            to_do="Take node_mask of a pruned graph of the same prompt, or a mask over layout.n_nodes.",
        )  # fmt: skip
    if not bool(graph.node_mask.all()):
        raise DataError(
            "subgraph", found="a graph without the edges of all its nodes", expected="the unpruned graph",
            to_do="Score before pruning; make the graph without node_threshold.",
        )  # fmt: skip
    return chosen
