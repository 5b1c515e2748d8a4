"""Pruning: the nodes and edges that carry a stated share of influence.

The rule is that of Ameisen et al. 2025 as circuit-tracer applies it: nodes whose influence is at least the value at
which the descending cumulative share first reaches the threshold (ties kept; tokens and targets always), the rest
removed and rows normalised anew, edges by `Ahat[t, s] * (I + w)[t]` under the same rule, then dangling nodes dropped
until none is left.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tracer.errors import ConfigError
from tracer.graph.influence import edge_influence, normalise_edges
from tracer.graph.layout import NodeKind

if TYPE_CHECKING:
    from tracer.graph.graph import Graph

NEAR_CUT = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What survives pruning."""

    node_mask: Bool[Tensor, " node"]
    edge_mask: Bool[Tensor, " edge"]
    n_near_cut: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Values ranked by their share of the total."""

    cumulative: Float[Tensor, " item"]
    """Share of the total held by this item and all larger ones."""
    kept: Bool[Tensor, " item"]
    n_near_cut: int


def check_threshold(threshold: float) -> None:
    """Refuse what is no share.

    Raises:
        ConfigError: the threshold is outside [0, 1].
    """
    if not 0.0 <= threshold <= 1.0:
        raise ConfigError(
            "pruning", found=f"threshold {threshold}", expected="a share in [0, 1]", to_do="Mend the threshold."
        )


def rank(values: Float[Tensor, " item"], threshold: float) -> Ranking:
    """Keep the largest values until they hold `threshold` of the total; equal values stay together.

    Raises:
        ConfigError: the threshold is outside [0, 1].
    """
    check_threshold(threshold)
    if not len(values):
        return Ranking(cumulative=values, kept=values.bool(), n_near_cut=0)
    ordered, order = values.double().sort(descending=True, stable=True)
    running = _running_share(ordered)
    near = ((running - threshold).abs() < NEAR_CUT) & (ordered > 0) & (running < 1 - NEAR_CUT)
    cumulative = torch.empty_like(running)
    cumulative[order] = running
    kept = values.double() >= _cut(ordered, running, threshold)
    return Ranking(cumulative=cumulative, kept=kept, n_near_cut=int(near.sum()))


def largest(values: Float[Tensor, "graph item"], threshold: float) -> Bool[Tensor, "graph item"]:
    """`rank(...).kept` of several graphs side by side; items of value 0 behind the last one change nothing.

    Raises:
        ConfigError: the threshold is outside [0, 1].
    """
    check_threshold(threshold)
    ordered = values.double().sort(descending=True, stable=True).values
    return values.double() >= _cut(ordered, _running_share(ordered), threshold)


def _running_share(ordered: Float[Tensor, "*graph item"]) -> Float[Tensor, "*graph item"]:
    return ordered.cumsum(-1) / ordered.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)


def _cut(
    ordered: Float[Tensor, "*graph item"], running: Float[Tensor, "*graph item"], threshold: float
) -> Float[Tensor, "*graph 1"]:
    """The value at which the running share first reaches the threshold."""
    reached = torch.searchsorted(running, running.new_full((*running.shape[:-1], 1), threshold))
    return ordered.gather(-1, reached.clamp_max(ordered.shape[-1] - 1))


def prune(graph: "Graph", *, node_threshold: float, edge_threshold: float) -> Kept:
    """Node and edge masks of the pruned graph.

    Raises:
        ConfigError: a threshold is outside [0, 1].
    """
    layout, weights = graph.layout, graph.target_weights
    node_ranking = rank(graph.influence, node_threshold)
    always = layout.is_kind(NodeKind.token) | layout.is_kind(NodeKind.logit)
    node_mask = (node_ranking.kept | always) & graph.node_mask
    between_kept = node_mask[graph.edge_target] & node_mask[graph.edge_source]
    target, source = graph.edge_target[between_kept], graph.edge_source[between_kept]
    normalised = normalise_edges(target, graph.edge_weight[between_kept], layout.n_nodes)
    kept_influence = edge_influence(target, source, normalised, weights)
    edge_ranking = rank(normalised * (kept_influence + weights)[target], edge_threshold)
    edge_mask = between_kept.clone()
    edge_mask[between_kept] = edge_ranking.kept
    node_mask, edge_mask = _drop_dangling(graph, node_mask, edge_mask)
    return Kept(node_mask=node_mask, edge_mask=edge_mask, n_near_cut=node_ranking.n_near_cut + edge_ranking.n_near_cut)


def _drop_dangling(graph: "Graph", node_mask: Tensor, edge_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Drop features without an edge in or out, and errors without one out, until nothing changes."""
    is_feature, is_error = graph.layout.is_kind(NodeKind.feature), graph.layout.is_kind(NodeKind.error)
    edge_mask = edge_mask & (graph.edge_weight != 0)
    while True:
        has_in = torch.zeros_like(node_mask).index_fill_(0, graph.edge_target[edge_mask].long(), True)
        has_out = torch.zeros_like(node_mask).index_fill_(0, graph.edge_source[edge_mask].long(), True)
        dangling = (is_feature & ~(has_in & has_out)) | (is_error & ~has_out)
        new_mask = node_mask & ~dangling
        edge_mask = edge_mask & new_mask[graph.edge_target] & new_mask[graph.edge_source]
        if bool((new_mask == node_mask).all()):
            return new_mask, edge_mask
        node_mask = new_mask
