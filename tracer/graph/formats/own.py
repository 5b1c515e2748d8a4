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
from tracer.files.limits import shown
from tracer.files.writing import write_file
from tracer.graph.graph import Graph, Target
from tracer.graph.layout import NodeLayout

FORMAT, VERSION = "tracer graph", 1
_FEATURES = "layout.features"
_INTEGERS = {torch.int32, torch.int64}
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_TENSORS = (
    dict.fromkeys(("token_ids", "edge_target", "edge_source"), _INTEGERS)
    | dict.fromkeys(("activations", "edge_weight", "row_bias", "error_share", "influence"), _FLOATS)
    | dict.fromkeys(("has_row", "node_mask"), {torch.bool})
)
"""Fields of a graph that are tensors, with the dtypes that they may have; the others go into the header, the layout
with its numbers.
"""


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
        raise _refused(path, f"format {shown(header.get('format'))}, version {shown(header.get('version'))}")
    if tensors.keys() != _TENSORS.keys() | {_FEATURES}:
        raise _refused(path, f"tensors {shown(sorted(tensors))}")
    try:
        layout = _layout(tensors.pop(_FEATURES), header["layout"], tensors["node_mask"].numel(), path)
        targets = tuple(_target(found, layout.n_pos, path) for found in header["targets"])
        text, tokens = header["text"], header["tokens"]
        uncovered, n_near_cut = header["uncovered_influence"], header["n_near_cut"]
        are_texts = isinstance(tokens, list) and all(isinstance(one, str) for one in (text, *tokens))
        if not (are_texts and _is_number(uncovered) and type(n_near_cut) is int):
            raise _refused(path, "a text or a number of the wrong type")
        _check_sizes(tensors, layout, n_tokens=len(tokens), n_targets=len(targets), path=path)
        _check_edges(tensors, layout, path)
        return Graph(
            layout=layout, text=text, tokens=tuple(tokens), targets=targets, uncovered_influence=float(uncovered),
            n_near_cut=n_near_cut, **tensors,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
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


def _layout(features: Tensor, numbers: dict[str, Any], n_nodes: int, path: Path) -> NodeLayout:
    """The numbering, whose features are sorted and inside the prompt and the layers."""
    n_layers, n_pos, n_targets = (numbers[name] for name in ("n_layers", "n_pos", "n_targets"))
    are_counts = len(numbers) == 3 and all(type(number) is int and number >= 0 for number in numbers.values())
    if not are_counts or not n_pos or len(features) + (n_layers + 1) * n_pos + n_targets != n_nodes:
        raise _refused(path, f"a layout that does not fit {n_nodes} nodes")
    if features.dtype != torch.int64 or features.ndim != 2 or features.shape[1] != 3:
        raise _refused(path, f"features of shape {tuple(features.shape)} and {features.dtype}")
    limits = torch.tensor([n_layers, n_pos, torch.iinfo(torch.int64).max])
    if bool(((features < 0) | (features >= limits)).any()):
        raise _refused(path, f"features outside {n_layers} layers and {n_pos} positions")
    if not torch.equal(features, features.unique(dim=0)):
        raise _refused(path, "features twice or out of order")
    return NodeLayout(features=features, n_layers=n_layers, n_pos=n_pos, n_targets=n_targets)


def _target(found: Any, n_pos: int, path: Path) -> Target:
    match found:
        case {"token": str() as token, "token_id": token_id, "pos": int() as pos, "weight": weight, "logit": logit} if (
            (token_id is None or type(token_id) is int)
            and 0 <= pos < n_pos
            and _is_number(weight)
            and _is_number(logit)
        ):
            return Target(token=token, token_id=token_id, pos=pos, weight=float(weight), logit=float(logit))
    raise _refused(path, f"a target {shown(found)}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _check_sizes(tensors: dict[str, Tensor], layout: NodeLayout, *, n_tokens: int, n_targets: int, path: Path) -> None:
    """Whether every tensor has an entry for each of what it is about, of a dtype that it may have."""
    sizes = {
        "token_ids": layout.n_pos, "activations": layout.n_features, "has_row": layout.n_features,
        "row_bias": layout.n_nodes, "error_share": layout.n_nodes, "node_mask": layout.n_nodes,
        "influence": layout.n_nodes,
    } | dict.fromkeys(("edge_target", "edge_source", "edge_weight"), tensors["edge_weight"].numel())  # fmt: skip
    for name, n_entries in sizes.items():
        tensor = tensors[name]
        if tensor.shape != (n_entries,) or tensor.dtype not in _TENSORS[name]:
            raise _refused(path, f"{name} of shape {tuple(tensor.shape)} and {tensor.dtype} for {n_entries}")
    if (n_tokens, n_targets) != (layout.n_pos, layout.n_targets):
        raise _refused(path, "tokens or targets that do not fit the nodes")


def _check_edges(tensors: dict[str, Tensor], layout: NodeLayout, path: Path) -> None:
    """Whether edges are numbers and lead from lower layers to higher ones.

    This holds where attention and MLP work in parallel, too: no MLP of a layer reads what another of it writes.
    """
    target, source, layers = tensors["edge_target"].long(), tensors["edge_source"].long(), layout.layers()
    ends = torch.cat([target, source])
    if bool(((ends < 0) | (ends >= layout.n_nodes)).any()):
        raise _refused(path, "edges that do not fit the nodes")
    if bool((layers[target] <= layers[source]).any()) or not bool(tensors["edge_weight"].isfinite().all()):
        raise _refused(path, "edges that are no numbers or do not lead to a higher layer")


def _refused(path: Path, found: str) -> ArtifactError:
    return ArtifactError(
        str(path), found=found, expected=f"a {FORMAT}, version {VERSION}",
        to_do="Give a file that save_graph of this version wrote, or make the graph anew.",
    )  # fmt: skip
