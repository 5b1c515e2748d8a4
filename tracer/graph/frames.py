"""A graph's kept nodes and edges as polars frames, with the columns of the `nodes` and `edges` tables."""

from typing import TYPE_CHECKING

import polars as pl
import torch
from torch import Tensor

from tracer.graph import pruning
from tracer.graph.influence import edge_influence, normalise_edges
from tracer.graph.layout import NodeKind

if TYPE_CHECKING:
    from tracer.graph.graph import Graph


def total_weight(graph: "Graph") -> float:
    """Sum of the target weights: frames give influence as a share of it, so that prompts can be compared and added."""
    return max(float(graph.target_weights.double().sum()), torch.finfo(torch.float64).tiny)


def _kept_nodes(graph: "Graph") -> Tensor:
    return graph.node_mask.nonzero().flatten()


def nodes(graph: "Graph") -> pl.DataFrame:
    """Kept nodes in node order: features, errors, tokens, targets."""
    layout = graph.layout
    kept = _kept_nodes(graph)
    kinds = layout.kinds()[kept]
    target_pos = torch.tensor([target.pos for target in graph.targets])
    pos = layout.positions(target_pos)[kept]
    feature = torch.full((layout.n_nodes,), -1)
    feature[: layout.n_features] = layout.features[:, 2]
    activation = torch.full((layout.n_nodes,), torch.nan, dtype=torch.float64)
    activation[: layout.n_features] = graph.activations.double()
    cumulative = pruning.rank(graph.influence, 0.0).cumulative[kept]
    is_logit = kinds == NodeKind.logit
    target_idx = (kept - layout.first_target).clamp_min(0).tolist()
    token_ids, tokens = [], []
    for logit, place, position in zip(is_logit.tolist(), target_idx, pos.tolist(), strict=True):
        target = graph.targets[place] if logit else None
        token_ids.append(target.token_id if target else int(graph.token_ids[position]))
        tokens.append(target.token if target else graph.tokens[position])
    has_layer, is_feature = kinds <= NodeKind.error, kinds == NodeKind.feature
    return pl.DataFrame(
        {
            "node_idx": list(range(len(kept))),
            "kind": [NodeKind(kind).name for kind in kinds.tolist()],
            "layer": _masked(layout.layers()[kept], has_layer),
            "pos": pos.tolist(),
            "feature": _masked(feature[kept], is_feature),
            "token_id": token_ids,
            "token": tokens,
            "activation": _masked(activation[kept], is_feature),
            "influence": (graph.influence[kept].double() / total_weight(graph)).tolist(),
            "cumulative_influence": cumulative.tolist(),
        },
        schema={
            "node_idx": pl.Int64, "kind": pl.String, "layer": pl.Int64, "pos": pl.Int64, "feature": pl.Int64,
            "token_id": pl.Int64, "token": pl.String, "activation": pl.Float64, "influence": pl.Float64,
            "cumulative_influence": pl.Float64,
        },
    )  # fmt: skip


def edges(graph: "Graph") -> pl.DataFrame:
    """Kept edges, strongest first."""
    kept = _kept_nodes(graph)
    place = torch.full((graph.layout.n_nodes,), -1)
    place[kept] = torch.arange(len(kept))
    normalised = normalise_edges(graph.edge_target, graph.edge_weight, graph.layout.n_nodes)
    weights = graph.target_weights
    reach = edge_influence(graph.edge_target, graph.edge_source, normalised, weights)
    score = normalised * (reach + weights)[graph.edge_target] / total_weight(graph)
    frame = pl.DataFrame({
        "target_idx": place[graph.edge_target].numpy(),
        "source_idx": place[graph.edge_source].numpy(),
        "weight": graph.edge_weight.double().numpy(),
        "normalised_weight": normalised.double().numpy(),
        "edge_score": score.double().numpy(),
    })
    return frame.sort("edge_score", "target_idx", "source_idx", descending=[True, False, False])


def _masked(values: Tensor, mask: Tensor) -> list[float | int | None]:
    return [value if keep else None for value, keep in zip(values.tolist(), mask.tolist(), strict=True)]
