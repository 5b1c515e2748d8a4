"""The nodes and links of graph JSON, made of a graph, field by field as circuit-tracer's `create_graph_files` does."""

from collections.abc import Callable
from typing import Any

import torch

from tracer.graph import pruning
from tracer.graph.formats.ids import FEATURE_TYPES, names_of
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind

LabelAt = Callable[[int, int, int], str | None]
"""The label of (layer, pos, feature)."""


def nodes_of(graph: Graph, label_of: LabelAt | None = None) -> list[dict[str, Any]]:
    """The kept nodes in node order.

    Args:
        graph: the graph.
        label_of: label of a feature, None or "" where it has none.
    """
    layout = graph.layout
    cumulative = pruning.rank(graph.influence, 0.0).cumulative.tolist()
    positions = layout.positions(torch.tensor([target.pos for target in graph.targets])).tolist()
    kinds, layers = layout.kinds().tolist(), layout.layers().tolist()
    nodes = []
    for idx, names in enumerate(names_of(graph)):
        if names is None:
            continue
        kind = NodeKind(kinds[idx])
        node = {
            "node_id": names.node_id,
            "feature": names.feature,
            "layer": _layer(kind, layers[idx]),
            "ctx_idx": positions[idx],
            "feature_type": FEATURE_TYPES[kind],
            "token_prob": 0.0,
            "is_target_logit": False,
            "run_idx": 0,
            "reverse_ctx_idx": 0,
            "jsNodeId": names.js_id,
            "clerp": "",
            "influence": cumulative[idx],
            "activation": None,
        }
        nodes.append(node | _particulars(graph, kind, idx, label_of))
    return nodes


def _layer(kind: NodeKind, layer: int) -> str:
    if kind is NodeKind.token:
        return "E"
    return str(layer + 1 if kind is NodeKind.logit else layer)


def _particulars(graph: Graph, kind: NodeKind, idx: int, label_of: LabelAt | None) -> dict[str, Any]:
    """What only features or only targets have."""
    if kind is NodeKind.feature:
        layer, pos, feature = graph.layout.features[idx].tolist()
        activation = float(graph.activations[idx])
        label = label_of(layer, pos, feature) if label_of else None
        return {"activation": None if activation != activation else activation, "clerp": label or ""}
    if kind is NodeKind.logit:
        target_idx = idx - graph.layout.first_target
        target = graph.targets[target_idx]
        # Viewers take the probability out of this text, and fail where it is not there.
        label = f'Output "{target.token}" (p={target.weight:.3f})'
        particulars = {"clerp": label, "token_prob": target.weight, "is_target_logit": target_idx == 0}
        return particulars | {"influence": None}
    return {}


def links_of(graph: Graph) -> list[dict[str, Any]]:
    """The edges by target and source, in node order.

    Args:
        graph: the graph.
    """
    names = [names.node_id if names else "" for names in names_of(graph)]
    order = graph.edge_source.argsort(stable=True)
    order = order[graph.edge_target[order].argsort(stable=True)]
    edges = zip(
        graph.edge_source[order].tolist(), graph.edge_target[order].tolist(), graph.edge_weight[order].tolist(),
        strict=True,
    )  # fmt: skip
    return [{"source": names[source], "target": names[target], "weight": weight} for source, target, weight in edges]
