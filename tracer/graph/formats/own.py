"""tracer's own graph file: one safetensors file with the tensors of a graph, and the rest as JSON in its metadata."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tracer.errors import ArtifactError
from tracer.files.writing import write_file
from tracer.graph.graph import Graph, Target
from tracer.graph.layout import NodeLayout

FORMAT, VERSION = "tracer graph", 1
_FEATURES = "layout.features"
_TENSORS = {
    "token_ids", "activations", "edge_target", "edge_source", "edge_weight", "has_row", "row_bias", "error_share",
    "node_mask", "influence",
}  # fmt: skip
"""Fields of a graph that are tensors; the others go into the header, the layout with its numbers."""


def save_graph(graph: Graph, path: Path | str) -> None:
    """Write a graph, pruned or not; `load_graph` gives it back bit for bit.

    Args:
        graph: the graph.
        path: the file, which shows the whole graph or, if writing fails, what it showed before.
    """
    layout = graph.layout
    tensors = {name: getattr(graph, name).contiguous().cpu() for name in sorted(_TENSORS)}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "layout": {"n_layers": layout.n_layers, "n_pos": layout.n_pos, "n_targets": layout.n_targets},
        "text": graph.text,
        "tokens": graph.tokens,
        "targets": [asdict(target) for target in graph.targets],
        "uncovered_influence": graph.uncovered_influence,
        "n_near_cut": graph.n_near_cut,
    }
    separate = {name: tensor.clone() for name, tensor in tensors.items()} | {_FEATURES: layout.features.cpu().clone()}
    write_file(Path(path), save(separate, metadata={"graph": json.dumps(header)}))


def load_graph(path: Path | str) -> Graph:
    """Read a graph that `save_graph` wrote.

    Args:
        path: the file.

    Raises:
        ArtifactError: there is no such file, it is damaged, of another format or of another version.
    """
    path = Path(path)
    header, tensors = _read(path)
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise _refused(path, f"format {header.get('format')!r}, version {header.get('version')!r}")
    if tensors.keys() != _TENSORS | {_FEATURES}:
        raise _refused(path, f"tensors {sorted(tensors)}")
    try:
        layout = NodeLayout(features=_features(tensors.pop(_FEATURES), path), **header["layout"])
        targets = tuple(Target(**target) for target in header["targets"])
        tokens = tuple(header["tokens"])
        _check(tensors, layout, n_tokens=len(tokens), n_targets=len(targets), path=path)
        return Graph(
            layout=layout, text=header["text"], tokens=tokens, targets=targets,
            uncovered_influence=header["uncovered_influence"], n_near_cut=header["n_near_cut"], **tensors,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        found = f"a header that does not fit ({type(error).__name__}: {str(error)[:200]})"
        raise _refused(path, found) from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("graph", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else "no whole safetensors file"
        raise _refused(path, found) from error
    return header if isinstance(header, dict) else {}, tensors


def _features(features: Tensor, path: Path) -> Tensor:
    if features.dtype != torch.int64 or features.ndim != 2 or features.shape[1] != 3 or bool((features < 0).any()):
        raise _refused(path, f"features of shape {tuple(features.shape)} and {features.dtype}")
    return features


def _check(tensors: dict[str, Tensor], layout: NodeLayout, *, n_tokens: int, n_targets: int, path: Path) -> None:
    """Whether every tensor has an entry for each of what it is about."""
    sizes = {
        "token_ids": layout.n_pos, "activations": layout.n_features, "has_row": layout.n_features,
        "row_bias": layout.n_nodes, "error_share": layout.n_nodes, "node_mask": layout.n_nodes,
        "influence": layout.n_nodes,
    } | dict.fromkeys(("edge_target", "edge_source", "edge_weight"), tensors["edge_weight"].numel())  # fmt: skip
    for name, n_entries in sizes.items():
        if tensors[name].shape != (n_entries,):
            raise _refused(path, f"{name} of shape {tuple(tensors[name].shape)} for {n_entries}")
    ends = torch.cat([tensors["edge_target"], tensors["edge_source"]])
    is_edge = not ends.is_floating_point() and bool(((ends >= 0) & (ends < layout.n_nodes)).all())
    if not is_edge or (n_tokens, n_targets) != (layout.n_pos, layout.n_targets):
        raise _refused(path, "tokens, targets or edges that do not fit the nodes")


def _refused(path: Path, found: str) -> ArtifactError:
    return ArtifactError(
        str(path), found=found, expected=f"a {FORMAT}, version {VERSION}",
        to_do="Give a file that save_graph of this version wrote, or make the graph anew.",
    )  # fmt: skip
