"""Graph JSON: the file of one graph that circuit-tracer's viewer and Neuronpedia show, read and written.

Fields as in circuit-tracer 0.5.0 (`circuit_tracer/frontend/graph_models.py`) and in Neuronpedia's schema of an
attribution graph; what neither knows is kept.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tracer.errors import DataError
from tracer.files.limits import MAX_JSON_BYTES, read_json_file, refused
from tracer.files.writing import write_file
from tracer.graph.formats.collisions import repaired
from tracer.graph.formats.groups import Groups
from tracer.graph.formats.ids import checked_slug
from tracer.graph.formats.json_graph import graph_of, within_graph
from tracer.graph.formats.json_nodes import links_of, nodes_of
from tracer.graph.formats.metadata import list_graph, metadata_of
from tracer.graph.graph import Graph

_NODE_FIELDS: dict[str, tuple[type, ...]] = {
    "node_id": (str,), "feature": (int, type(None)), "layer": (str, int), "ctx_idx": (int,), "feature_type": (str,),
    "jsNodeId": (str,), "clerp": (str,),
} | dict.fromkeys(("token_prob", "influence", "activation"), (int, float, type(None)))  # fmt: skip
"""The last three may be absent."""
_LINK_FIELDS: dict[str, tuple[type, ...]] = {"source": (str,), "target": (str,), "weight": (int, float)}
_LARGEST = 1e300
LabelOf = Callable[[int, int], str | None]
"""The label of (layer, feature)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphJson:
    """One file as it is, but for names that clashed."""

    data: dict[str, Any]
    path: Path
    """Where it was read, or is to be written; named in errors."""
    collisions: list[str] = field(default_factory=list)
    """What was changed so that every node has a name of its own, in words."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Slug, scan, prompt and settings."""
        return self.data["metadata"]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """Nodes in the file's order."""
        return self.data["nodes"]

    @property
    def links(self) -> list[dict[str, Any]]:
        """Edges in the file's order."""
        return self.data["links"]

    def graph(self) -> Graph:
        """The graph of its nodes and edges, in float64; its influence is that of these edges.

        Raises:
            DataError: a node is of a kind that graphs here do not have, or an edge does not lead to a higher layer.
        """
        return graph_of(self.data, self.path)

    def groups(self) -> Groups:
        """The named groups, pinned nodes and labels that were saved with it.

        Raises:
            DataError: they are malformed.
        """
        return Groups.from_q_params(self.data["qParams"], where=str(self.path), nodes=self.nodes)

    def with_graph(self, graph: Graph) -> "GraphJson":
        """The file with only the nodes and links that its graph, pruned, still has.

        Every entry that stays is the file's own, in the file's order: nothing is made anew of the graph, which does not
        say all that an entry does.

        Args:
            graph: what `graph` gave, or that pruned.

        Raises:
            DataError: it is another graph, with nodes or edges that the file has not.
        """
        nodes, links = within_graph(self.data, graph, self.path)
        return replace(self, data=self.data | {"nodes": nodes, "links": links})

    def save(self, path: Path | str) -> Path:
        """Write it whole or not at all, without a listing; gives the path.

        Args:
            path: the file.
        """
        path = Path(path)
        write_file(path, json.dumps(self.data, allow_nan=False, separators=(",", ":")).encode())
        return path


def read_json(path: Path | str, *, max_bytes: int = MAX_JSON_BYTES) -> GraphJson:
    """Read graph JSON; clashing names are mended, and `collisions` says which.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Raises:
        DataError: it is too large, no JSON, no graph, or two nodes of one name cannot be told apart.
    """
    path = Path(path)
    data = read_json_file(path, max_bytes)
    _check(data, path)
    data, collisions = repaired(data, path)
    return GraphJson(data=data, path=path, collisions=collisions)


def to_graph_json(
    graph: Graph,
    *,
    slug: str,
    scan: str | None,
    node_threshold: float | None = 0.8,
    edge_threshold: float | None = 0.98,
    label_of: LabelOf | None = None,
    transcoder_list: Sequence[str] = (),
    groups: Groups | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> GraphJson:
    """Graph JSON of a graph.

    Args:
        graph: the graph; an unpruned one is pruned, another is written as it is.
        slug: its name, which is that of its file.
        scan: which transcoders made it, as `viewer_scan` gives it; None or empty where `transcoder_list` says it.
        node_threshold: share of influence whose nodes are kept, or were kept in a graph that is pruned; None keeps all.
        edge_threshold: the same of edges.
        label_of: label of (layer, feature), None or "" where there is none.
        transcoder_list: each layer's transcoders, where they are not one set.
        groups: named groups, written as far as the graph has their nodes, and labels, which go before `label_of`.
        metadata: further entries of the file's metadata.

    Raises:
        DataError: the slug is no file name, or nothing says which transcoders.
        ConfigError: a threshold is outside [0, 1].
    """
    checked_slug(slug)
    if not scan and not transcoder_list:
        raise DataError(
            slug, found="no transcoders", expected="scan or transcoder_list, by which viewers find the features",
            to_do="Give the name of the transcoder set as scan.",
        )  # fmt: skip
    if bool(graph.node_mask.all()) and not (node_threshold is None and edge_threshold is None):
        thresholds = [1.0 if value is None else value for value in (node_threshold, edge_threshold)]
        graph = graph.prune(*thresholds)
    shown = groups or Groups()

    def label_at(layer: int, pos: int, feature: int) -> str | None:
        return shown.label_of(layer, pos, feature) or (label_of(layer, feature) if label_of else None)

    nodes = nodes_of(graph, label_at)
    data = {
        "metadata": metadata_of(
            graph, slug, scan, transcoder_list=transcoder_list, node_threshold=node_threshold,
            edge_threshold=edge_threshold, more=metadata or {},
        ),
        "qParams": shown.within({node["node_id"] for node in nodes}).q_params(),
        "nodes": nodes,
        "links": links_of(graph),
    }  # fmt: skip
    return GraphJson(data=data, path=Path(f"{slug}.json"))


def write_json(graph: Graph, folder: Path | str, slug: str, *, scan: str | None, **settings: Any) -> Path:
    """Write `{slug}.json` and put the graph into the folder's `graph-metadata.json`; gives the path.

    Args:
        graph: the graph.
        folder: where graphs lie that a viewer serves together.
        slug: the graph's name; one of this name is replaced.
        scan: as for `to_graph_json`.
        **settings: those of `to_graph_json`.

    Raises:
        DataError: as `to_graph_json`, or the folder's listing is damaged.
        ConfigError: a threshold is outside [0, 1].
    """
    record = to_graph_json(graph, slug=slug, scan=scan, **settings)
    path = record.save(Path(folder) / f"{slug}.json")
    list_graph(Path(folder), record.metadata)
    return path


def _check(data: Any, path: Path) -> None:
    """Whether all that is looked at has the right type."""
    parts = {"metadata": dict, "qParams": dict, "nodes": list, "links": list}
    if not isinstance(data, dict) or not all(isinstance(data.get(name), kind) for name, kind in parts.items()):
        raise _no_graph(path, "no metadata, qParams, nodes and links")
    metadata = data["metadata"]
    tokens = metadata.get("prompt_tokens")
    are_texts = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    if not are_texts or not all(isinstance(metadata.get(name), str) for name in ("slug", "scan", "prompt")):
        raise _no_graph(path, "metadata without slug, scan, prompt and prompt_tokens")
    for name, fields in (("nodes", _NODE_FIELDS), ("links", _LINK_FIELDS)):
        for idx, entry in enumerate(data[name]):
            if not isinstance(entry, dict) or not all(_fits(entry.get(key), kinds) for key, kinds in fields.items()):
                raise _no_graph(path, f"entry {idx} of {name} without {', '.join(fields)} of the right type")


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and (not isinstance(value, int | float) or abs(value) < _LARGEST)


def _no_graph(path: Path, found: str) -> DataError:
    return refused(path, found=found, expected="the JSON of an attribution graph", to_do="Give a graph's own file.")
