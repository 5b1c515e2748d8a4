"""Tells apart the nodes of graph JSON that were given one name.

circuit-tracer calls the error of a layer `0_{layer}_{pos}`, which is also the name of feature number `layer` of layer 0
at that position; `jsNodeId` clashes likewise. Here the error gets a name of its own, and each link that the two shared
is given to one of them: an error has no link into it; a link leads to a higher layer; and as files are written, the
links of one target are in the order of their sources.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tracer.files.limits import refused
from tracer.graph.formats.ids import FEATURE_TYPES, error_id, error_js_id, layer_number
from tracer.graph.layout import NodeKind

Node = dict[str, Any]


def repaired(data: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[str]]:
    """The data with distinct names, and what was changed; the same data where nothing was.

    Args:
        data: graph JSON whose nodes and links have the right types.
        path: its file, named in errors.

    Raises:
        DataError: nodes of one name are not one error and one feature.
    """
    nodes: list[Node] = data["nodes"]
    counts = Counter(node["node_id"] for node in nodes)
    js_ids = {node["jsNodeId"] for node in nodes if _is_feature(node)}
    pairs: dict[str, tuple[int, int]] = {}
    shared: dict[str, list[int]] = defaultdict(list)
    for idx, node in enumerate(nodes):
        if counts[node["node_id"]] > 1:
            shared[node["node_id"]].append(idx)
    for name, places in shared.items():
        features = [idx for idx in places if _is_feature(nodes[idx])]
        errors = [idx for idx in places if _is_error(nodes[idx])]
        if len(places) != 2 or len(features) != 1 or len(errors) != 1:
            raise refused(path, found=f"{len(places)} nodes called {name}", expected="a name for every node")
        pairs[name] = (features[0], errors[0])
    new_nodes = [_renamed(node, counts, js_ids) for node in nodes]
    if new_nodes == nodes:
        return data, []
    links, n_shared, n_open = _shared_out(data["links"], nodes, pairs)
    reports = [
        f"{old['node_id']} ({old['jsNodeId']}): the error of layer {old['layer']} at position {old['ctx_idx']} is "
        f"now {new['node_id']} ({new['jsNodeId']})"
        for old, new in zip(nodes, new_nodes, strict=True)
        if old != new
    ]
    reports += [
        f"{name}: {n_shared[name]} links shared out between a feature and an error"
        + (f", of which {n_open[name]} could be either's and were given to the feature" if n_open[name] else "")
        for name in pairs
        if n_shared[name]
    ]
    return data | {"nodes": new_nodes, "links": links}, reports


def _is_feature(node: Node) -> bool:
    return node["feature_type"] == FEATURE_TYPES[NodeKind.feature]


def _is_error(node: Node) -> bool:
    return node["feature_type"] == FEATURE_TYPES[NodeKind.error]


def _renamed(node: Node, counts: Counter[str], js_ids: set[str]) -> Node:
    if not _is_error(node):
        return node
    is_free, is_js_free = counts[node["node_id"]] == 1, node["jsNodeId"] not in js_ids
    layer, pos = node["layer"], node["ctx_idx"]
    return node | {
        "node_id": node["node_id"] if is_free else error_id(layer, pos, is_free=False),
        "jsNodeId": node["jsNodeId"] if is_js_free else error_js_id(layer, pos, is_free=False),
    }


def _shared_out(
    links: list[dict[str, Any]], nodes: list[Node], pairs: dict[str, tuple[int, int]]
) -> tuple[list[dict[str, Any]], Counter[str], Counter[str]]:
    """The links with the new names, and per shared name the links out of it, and those that remained open."""
    place = {node["node_id"]: idx for idx, node in enumerate(nodes)}
    by_target: dict[str, list[int]] = defaultdict(list)
    for idx, link in enumerate(links):
        by_target[link["target"]].append(idx)
    new_links, n_shared, n_open = list(links), Counter[str](), Counter[str]()
    for target, members in by_target.items():
        names = [links[idx]["source"] for idx in members]
        known = [place.get(name, -1) if name not in pairs else None for name in names]
        plain = [idx for idx in known if idx is not None]
        is_ordered = plain == sorted(plain)
        for at, (idx, name) in enumerate(zip(members, names, strict=True)):
            if name not in pairs:
                continue
            n_shared[name] += 1
            candidates = _possible(nodes, pairs[name], target, place)
            if len(candidates) == 2 and names.count(name) == 2:
                candidates = [sorted(candidates)[names[:at].count(name)]]
            elif is_ordered:
                before = max((idx for idx in known[:at] if idx is not None), default=-1)
                after = min((idx for idx in known[at + 1 :] if idx is not None), default=len(nodes))
                candidates = [idx for idx in candidates if before < idx < after] or candidates
            n_open[name] += len(candidates) > 1
            if _is_error(nodes[candidates[0]]):
                error = nodes[candidates[0]]
                new_id = error_id(error["layer"], error["ctx_idx"], is_free=False)
                new_links[idx] = links[idx] | {"source": new_id}
    return new_links, n_shared, n_open


def _possible(nodes: list[Node], pair: tuple[int, int], target: str, place: dict[str, int]) -> list[int]:
    """The feature and, where the target lies above it, the error."""
    feature, error = pair
    above = layer_number(nodes[place[target]]["layer"]) if target in place else None
    below = layer_number(nodes[error]["layer"])
    return [feature, error] if above is not None and below is not None and above > below else [feature]
