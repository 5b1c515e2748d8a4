"""Random graphs of the shape that attribution gives: edges from lower layers and the same or earlier positions."""

from dataclasses import replace

import torch
from torch import Tensor

from tracer.graph.graph import Graph, Target
from tracer.graph.influence import edge_influence, normalise_edges
from tracer.graph.layout import NodeKind, NodeLayout
from tracer.graph.scores import share_from


def random_graph(*, seed: int, n_layers: int, n_pos: int, n_features: int, spread: float = 1.5) -> Graph:
    """Every row known. Edge weights are log-normal with the given spread; a third of the edges is absent."""
    generator = torch.Generator().manual_seed(seed)

    def integers(limit: int) -> Tensor:
        return torch.randint(limit, (n_features,), generator=generator)

    features = torch.stack([integers(n_layers), integers(n_pos), torch.arange(n_features)], dim=1)
    order = (features[:, 0] * n_pos + features[:, 1]).argsort(stable=True)
    layout = NodeLayout(features=features[order], n_layers=n_layers, n_pos=n_pos, n_targets=2)
    target_pos = torch.tensor([n_pos - 1, max(0, n_pos - 2)])
    layers, pos = layout.layers(), layout.positions(target_pos)
    has_inputs = layout.is_kind(NodeKind.feature) | layout.is_kind(NodeKind.logit)
    allowed = (layers[:, None] > layers[None]) & (pos[:, None] >= pos[None]) & has_inputs[:, None]
    present = allowed & (torch.rand(allowed.shape, generator=generator) > 1 / 3)
    target, source = present.nonzero(as_tuple=True)
    sizes = (spread * torch.randn(len(target), generator=generator)).exp()
    signs = torch.where(torch.rand(len(target), generator=generator) > 0.5, 1.0, -1.0)
    weights = torch.rand(2, generator=generator).tolist()
    graph = Graph(
        layout=layout, text="", token_ids=torch.arange(n_pos), tokens=("x",) * n_pos,
        targets=tuple(
            Target(token="y", token_id=0, pos=int(place), weight=weight, logit=0.0)
            for place, weight in zip(target_pos, weights, strict=True)
        ),
        activations=torch.ones(n_features), edge_target=target, edge_source=source, edge_weight=sizes * signs,
        has_row=torch.ones(n_features, dtype=torch.bool), row_bias=torch.zeros(layout.n_nodes),
        error_share=torch.zeros(layout.n_nodes), node_mask=torch.ones(layout.n_nodes, dtype=torch.bool),
        influence=torch.zeros(layout.n_nodes),
        uncovered_influence=0.0,
    )  # fmt: skip
    normalised = normalise_edges(target, graph.edge_weight, layout.n_nodes)
    error_share = share_from(layout.is_kind(NodeKind.error), target, source, normalised)
    return replace(graph, influence=influence_of(graph), error_share=error_share)


def influence_of(graph: Graph) -> Tensor:
    normalised = normalise_edges(graph.edge_target, graph.edge_weight, graph.layout.n_nodes)
    return edge_influence(graph.edge_target, graph.edge_source, normalised, graph.target_weights)


def with_rows(graph: Graph, has_row: Tensor) -> Graph:
    """What is known of the graph when only these features' rows were computed."""
    known = torch.ones(graph.layout.n_nodes, dtype=torch.bool)
    known[: graph.layout.n_features] = has_row
    kept = known[graph.edge_target]
    partial = replace(
        graph, edge_target=graph.edge_target[kept], edge_source=graph.edge_source[kept],
        edge_weight=graph.edge_weight[kept], has_row=has_row,
    )  # fmt: skip
    reach = influence_of(partial)
    waiting = torch.where(has_row, 0.0, reach[: graph.layout.n_features]).sum()
    return replace(partial, influence=reach, uncovered_influence=float(waiting / graph.target_weights.sum()))
