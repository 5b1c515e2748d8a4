"""Makes a graph of graph JSON: of its nodes, links and prompt."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tracer.errors import DataError
from tracer.files.limits import refused, shown
from tracer.graph.formats.ids import FEATURE_TYPES, FIRST_DIRECTION, feature_of_id, layer_number, uncantor
from tracer.graph.graph import Graph, Target
from tracer.graph.influence import edge_influence, normalise_edges
from tracer.graph.layout import NodeKind, NodeLayout
from tracer.graph.scores import share_from

_KINDS = {name: kind for kind, name in FEATURE_TYPES.items()} | {"unexplored node": NodeKind.feature}
_TOKEN_ID = re.compile(r"E_(\d{1,18})_\d+")
_MOST_NUMBER = 2**62
_MOST_ERRORS = 10**7
_TARGET_LABEL = re.compile(r'Output "(.*)" \(p=.*\)', re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a node belongs: the fields that its kind has, 0 for the others."""

    kind: NodeKind
    layer: int
    pos: int
    feature: int


def graph_of(data: dict[str, Any], path: Path) -> Graph:
    """The graph of the nodes and links; entries are float64, as JSON writes them.

    Args:
        data: graph JSON whose nodes and links have the right types and distinct names.
        path: its file, named in errors.

    Raises:
        DataError: a node is of an unknown type or outside the prompt, or an edge does not lead to a higher layer.
    """
    nodes, metadata = data["nodes"], data["metadata"]
    places, layout, indices = _arranged(data, path)
    node_mask = torch.zeros(layout.n_nodes, dtype=torch.bool)
    node_mask[indices] = True
    if int(node_mask.sum()) != len(nodes):
        raise refused(path, found="two nodes of one layer, position and feature", expected="each node once")
    target, source, weight = _edges(data["links"], nodes, indices)
    layers = layout.layers()
    if bool((layers[target] <= layers[source]).any()) or not bool(weight.isfinite().all()):
        raise refused(path, found="a link that leads to no higher layer", expected="links from lower to higher layers")
    targets = tuple(_target(node) for node, place in zip(nodes, places, strict=True) if place.kind is NodeKind.logit)
    weights = torch.zeros(layout.n_nodes, dtype=torch.float64)
    weights[layout.first_target :] = torch.tensor([target.weight for target in targets], dtype=torch.float64)
    normalised = normalise_edges(target, weight, layout.n_nodes)
    return Graph(
        layout=layout,
        text=metadata["prompt"],
        token_ids=_token_ids(nodes, places, layout.n_pos),
        tokens=tuple(metadata["prompt_tokens"]),
        targets=targets,
        activations=_activations(nodes, indices, layout),
        edge_target=target,
        edge_source=source,
        edge_weight=weight,
        has_row=torch.ones(layout.n_features, dtype=torch.bool),
        row_bias=torch.full((layout.n_nodes,), math.nan, dtype=torch.float64),
        error_share=share_from(layout.is_kind(NodeKind.error), target, source, normalised),
        node_mask=node_mask,
        influence=edge_influence(target, source, normalised, weights),
        uncovered_influence=math.nan,
    )


def within_graph(data: dict[str, Any], graph: Graph, path: Path) -> tuple[list[Any], list[Any]]:
    """The nodes and links of a file that are in a graph made of it, each the file's own entry, in the file's order.

    Links of nodes that are not in the file stay: they are in no graph.

    Args:
        data: graph JSON whose nodes and links have the right types and distinct names.
        graph: the graph of it, or that graph pruned.
        path: its file, named in errors.

    Raises:
        DataError: as `graph_of`, or the graph has nodes or edges that the file has not.
    """
    _, layout, indices = _arranged(data, path)
    is_same_layout = graph.layout.n_nodes == layout.n_nodes and torch.equal(graph.layout.features, layout.features)
    is_in_file = torch.zeros(layout.n_nodes, dtype=torch.bool)
    is_in_file[indices] = True
    if not is_same_layout or bool((graph.node_mask & ~is_in_file).any()):
        raise _foreign(path, "a graph with other nodes")
    kept = graph.node_mask[indices].tolist()
    nodes = [node for node, is_kept in zip(data["nodes"], kept, strict=True) if is_kept]
    edges = Counter(
        zip(graph.edge_target.tolist(), graph.edge_source.tolist(), graph.edge_weight.tolist(), strict=True)
    )
    index_of = {node["node_id"]: idx for node, idx in zip(data["nodes"], indices, strict=True)}
    links = []
    for link in data["links"]:
        ends = index_of.get(link["target"]), index_of.get(link["source"])
        edge = (*ends, float(link["weight"]))
        if None in ends or edges[edge] > 0:
            links.append(link)
            edges[edge] -= 1
    if any(n_left > 0 for n_left in edges.values()):
        raise _foreign(path, "a graph with other edges")
    return nodes, links


def _foreign(path: Path, found: str) -> DataError:
    return refused(
        path, found=found, expected="the graph of this file, or that graph pruned",
        to_do="Make a file of the graph itself with to_graph_json.",
    )  # fmt: skip


def feature_place(node: dict[str, Any]) -> tuple[int, int, int] | None:
    """The (layer, pos, feature) of a feature's node; None for other nodes and for names that say nothing.

    Args:
        node: a node of graph JSON.
    """
    layer, pos, number = layer_number(node["layer"]), node["ctx_idx"], node["feature"]
    if _KINDS.get(node["feature_type"]) is not NodeKind.feature or layer is None:
        return None
    named = feature_of_id(node["node_id"])
    if named and named[:2] == (layer, pos):
        return named
    if isinstance(number, int) and 0 <= number < _MOST_NUMBER and uncantor(number)[0] == layer:
        return layer, pos, uncantor(number)[1]
    return None


def _place(node: dict[str, Any], path: Path) -> _Place:
    kind, layer, pos = _KINDS.get(node["feature_type"]), layer_number(node["layer"]), node["ctx_idx"]
    if kind is NodeKind.feature:
        place = feature_place(node)
        if place is not None:
            return _Place(kind=kind, layer=place[0], pos=pos, feature=place[2])
    elif kind is NodeKind.token:
        return _Place(kind=kind, layer=0, pos=pos, feature=0)
    elif kind is not None and layer is not None:
        return _Place(kind=kind, layer=layer, pos=pos, feature=0)
    raise refused(
        path, found=f"node {node['node_id']} of type {shown(node['feature_type'])} in layer {shown(node['layer'])}",
        expected=f"one of {', '.join(_KINDS)}, named by layer, feature and position",
        to_do="Graphs with other kinds of nodes cannot be read; the file as it is can be.",
    )  # fmt: skip


def _arranged(data: dict[str, Any], path: Path) -> tuple[list[_Place], NodeLayout, list[int]]:
    """Where every node belongs, the numbering, and each node's index in it."""
    places = [_place(node, path) for node in data["nodes"]]
    layout, indices = _layout(places, len(data["metadata"]["prompt_tokens"]), path)
    return places, layout, indices


def _layout(places: list[_Place], n_pos: int, path: Path) -> tuple[NodeLayout, list[int]]:
    """The numbering, and each node's index in it."""
    highest = max((place.layer + 1 for place in places if place.kind <= NodeKind.error), default=0)
    target_layers = [place.layer - 1 for place in places if place.kind is NodeKind.logit]
    n_layers = max(highest, min(target_layers, default=0))
    features = sorted((place.layer, place.pos, place.feature) for place in places if place.kind is NodeKind.feature)
    outside = any(not 0 <= place.pos < n_pos for place in places)
    if outside or not target_layers or n_layers * n_pos > _MOST_ERRORS:
        found = "no target" if not target_layers else f"nodes in {n_layers} layers of a prompt of {n_pos} tokens"
        raise refused(path, found=found, expected="targets, and nodes at the tokens of the prompt")
    layout = NodeLayout(
        features=torch.tensor(features, dtype=torch.long).view(-1, 3),
        n_layers=n_layers, n_pos=n_pos, n_targets=len(target_layers),
    )  # fmt: skip
    index_of = {feature: idx for idx, feature in enumerate(features)}
    indices, n_targets = [], 0
    for place in places:
        match place.kind:
            case NodeKind.feature:
                indices.append(index_of[place.layer, place.pos, place.feature])
            case NodeKind.error:
                indices.append(layout.first_error + place.layer * n_pos + place.pos)
            case NodeKind.token:
                indices.append(layout.first_token + place.pos)
            case NodeKind.logit:
                indices.append(layout.first_target + n_targets)
                n_targets += 1
    return layout, indices


def _edges(
    links: list[dict[str, Any]], nodes: list[dict[str, Any]], indices: list[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Targets, sources and weights; links of nodes that are not there are left out, as viewers do."""
    index_of = {node["node_id"]: idx for node, idx in zip(nodes, indices, strict=True)}
    known = [link for link in links if link["target"] in index_of and link["source"] in index_of]
    ends = torch.tensor([[index_of[link["target"]], index_of[link["source"]]] for link in known], dtype=torch.int32)
    ends = ends.view(-1, 2)
    return ends[:, 0].contiguous(), ends[:, 1].contiguous(), torch.tensor(
        [float(link["weight"]) for link in known], dtype=torch.float64
    )  # fmt: skip


def _target(node: dict[str, Any]) -> Target:
    label, number = _TARGET_LABEL.fullmatch(node["clerp"]), node["feature"]
    is_token = isinstance(number, int) and 0 <= number < FIRST_DIRECTION
    return Target(
        token=label[1] if label else node["clerp"], token_id=number if is_token else None, pos=node["ctx_idx"],
        weight=float(node.get("token_prob") or 0.0), logit=math.nan,
    )  # fmt: skip


def _token_ids(nodes: list[dict[str, Any]], places: list[_Place], n_pos: int) -> torch.Tensor:
    """Ids of the prompt's tokens, -1 where no node names one."""
    token_ids = torch.full((n_pos,), -1)
    for node, place in zip(nodes, places, strict=True):
        named = _TOKEN_ID.fullmatch(node["node_id"]) if place.kind is NodeKind.token else None
        if named:
            token_ids[place.pos] = int(named[1])
    return token_ids


def _activations(nodes: list[dict[str, Any]], indices: list[int], layout: NodeLayout) -> torch.Tensor:
    """Activations of the features, NaN where the file has none."""
    activations = torch.full((layout.n_features,), math.nan, dtype=torch.float64)
    for node, idx in zip(nodes, indices, strict=True):
        value = node.get("activation")
        if idx < layout.n_features and value is not None:
            activations[idx] = float(value)
    return activations
