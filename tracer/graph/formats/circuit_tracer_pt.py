"""Reads the `.pt` graphs of circuit-tracer, without executing the pickle in them.

Keys as in its public source (`circuit_tracer/graph.py`, 0.1 of June 2025 to 0.5.0): `input_string`, `input_tokens`,
`adjacency_matrix` over selected features, errors, tokens and targets, rows being targets; `active_features (n, 3)` with
`selected_features` pointing into it; `activation_values`; `logit_probabilities`; `logit_targets`, a list of (text,
index into the vocabulary) where an index from `vocab_size` on is no token, or a tensor of token ids, which the first
versions call `logit_tokens`; `cfg` and `scan`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.errors import DataError
from tracer.files.archived_tensor import ArchivedTensor
from tracer.files.limits import MAX_BYTES, refused, shown
from tracer.files.pickle_machine import Inert
from tracer.files.torch_archive import read_archive
from tracer.graph.graph import Graph, Target
from tracer.graph.influence import DescendingInfluence
from tracer.graph.layout import NodeKind, NodeLayout

_PACKAGES = ("circuit_tracer", "transformer_lens")
"""Whose classes such a file holds, for `cfg` and for targets."""
_TENSORS = (
    "input_tokens", "adjacency_matrix", "active_features", "selected_features", "activation_values",
    "logit_probabilities",
)  # fmt: skip
_BLOCK_BYTES = 64 * 1024**2
"""Rows of the matrix that are held at once."""
_MOST_NODES = 2**17
_MOST_TOKEN_ID = 2**62


def read_pt(path: Path | str, *, token_text: Callable[[int], str] | None = None, max_bytes: int = MAX_BYTES) -> Graph:
    """The graph in a file of circuit-tracer, unpruned, with its selected features.

    What the file does not hold is NaN: logits, biases of rows, and the influence left uncovered where features were
    left out.

    Args:
        path: the file.
        token_text: text of a token id; ids stand for themselves when not given. Texts in the file have precedence.
        max_bytes: the largest matrix that is read.

    Raises:
        DataError: the file is damaged, too large, no graph of circuit-tracer, or holds a class that such a graph does
            not have.
    """
    path = Path(path)
    found = _contents(path, max_bytes)
    values = found | {name: found[name].whole() for name in _TENSORS if name != "adjacency_matrix"}
    token_ids, probabilities = values["input_tokens"].flatten().long(), values["logit_probabilities"].flatten().double()
    selected, active = values["selected_features"].flatten().long(), values["active_features"].long()
    places = _selected(path, selected, active)
    text_of = token_text or str
    targets = _targets(path, values, text_of, len(token_ids) - 1, probabilities.tolist())
    n_layers = _n_layers(path, found, n_rest=len(places) + len(targets), n_pos=len(token_ids))
    order = _sorted_order(path, places, n_layers, len(token_ids))
    layout = NodeLayout(features=places[order], n_layers=n_layers, n_pos=len(token_ids), n_targets=len(targets))
    activations = _activations(path, values["activation_values"].flatten().float(), selected, len(active))[order]
    rows = _Rows(path, found["adjacency_matrix"], layout, order, [target.weight for target in targets])
    rows.read()
    return Graph(
        layout=layout,
        text=found.get("input_string", ""),
        token_ids=token_ids,
        tokens=tuple(text_of(token_id) for token_id in token_ids.tolist()),
        targets=targets,
        activations=activations,
        edge_target=torch.cat(rows.targets),
        edge_source=torch.cat(rows.sources),
        edge_weight=torch.cat(rows.weights),
        has_row=torch.ones(layout.n_features, dtype=torch.bool),
        row_bias=torch.full((layout.n_nodes,), math.nan),
        error_share=rows.error_share,
        node_mask=torch.ones(layout.n_nodes, dtype=torch.bool),
        influence=rows.descending.influence.float(),
        uncovered_influence=0.0 if len(selected) == len(active) else math.nan,
    )


def pt_scan(path: Path | str) -> str | list[str] | None:
    """Which transcoders made the graph in a file of circuit-tracer: its `scan`, which a `Graph` has no place for.

    A name is what `to_graph_json` takes as `scan`, a list of names what it takes as `transcoder_list`; None where the
    file says nothing.

    Args:
        path: the file.

    Raises:
        DataError: as `read_pt`, or `scan` is neither a text nor a list of texts.
    """
    path = Path(path)
    scan = _contents(path, MAX_BYTES).get("scan")
    names = list(scan) if isinstance(scan, list | tuple) else [scan or ""]
    if not all(isinstance(name, str) for name in names):
        raise _refused(path, f"scan {shown(scan)}")
    return names if isinstance(scan, list | tuple) and names else scan or None


def _contents(path: Path, max_bytes: int) -> dict[str, Any]:
    """What the file holds, tensors left in it: all that a graph needs, of which no tensor is larger than the file."""
    found = read_archive(path, packages=_PACKAGES, lazy=True, max_bytes=max_bytes)
    if not isinstance(found, dict) or not all(isinstance(found.get(name), ArchivedTensor) for name in _TENSORS):
        missing = [name for name in _TENSORS if not isinstance(found, dict) or name not in found]
        raise _refused(path, f"a file without {', '.join(missing) or 'tensors where they belong'}")
    for name, value in found.items():
        if isinstance(value, ArchivedTensor) and value.n_bytes > value.n_span_bytes:
            raise _refused(path, f"{name} of {value.n_bytes:,} bytes, of which the file holds {value.n_span_bytes:,}")
    if not isinstance(found.get("input_string", ""), str):
        raise _refused(path, f"an input_string that is a {type(found['input_string']).__name__}")
    return found


class _Rows:
    """Rows of the matrix, read a block at a time from the targets down, and what follows from them."""

    def __init__(
        self,
        path: Path,
        matrix: ArchivedTensor,
        layout: NodeLayout,
        order: Int[Tensor, " feature"],
        weights: list[float],
    ) -> None:
        self.path, self.matrix, self.layout = path, matrix, layout
        self.file_idx = torch.cat([order, torch.arange(layout.n_features, layout.n_nodes)])
        target_weights = torch.zeros(layout.n_nodes)
        target_weights[layout.first_target :] = torch.tensor(weights)
        self.descending = DescendingInfluence(target_weights)
        self.layers = layout.layers()
        self.is_error = layout.is_kind(NodeKind.error)
        self.error_share = torch.zeros(layout.n_nodes)
        self.targets: list[Tensor] = []
        self.sources: list[Tensor] = []
        self.weights: list[Tensor] = []

    def read(self) -> None:
        """Read all rows; those of errors and tokens must be empty."""
        layout = self.layout
        self._add(torch.arange(layout.first_target, layout.n_nodes))
        for layer in reversed(range(layout.n_layers)):
            features = layout.layer_features(layer)
            self._add(torch.arange(features.start, features.stop))
        self._add(torch.arange(layout.first_error, layout.first_target))

    def _add(self, nodes: Int[Tensor, " row"]) -> None:
        n_block_rows = max(1, _BLOCK_BYTES // (self.layout.n_nodes * self.matrix.dtype.itemsize))
        for block in nodes.split(n_block_rows):
            rows = self.matrix.rows(self.file_idx[block]).float()[:, self.file_idx]
            target, source = rows.nonzero(as_tuple=True)
            weight, target = rows[target, source], block[target]
            leads_up = (self.layers[target] > self.layers[source]).all()
            if not bool(leads_up & weight.isfinite().all()) or (len(target) and self._is_empty(block[0])):
                raise _refused(self.path, "edges that are no numbers or do not lead up to a feature or target")
            self.targets.append(target.int())
            self.sources.append(source.int())
            self.weights.append(weight)
            absolute = rows.abs().T
            self.error_share[block] = absolute[self.is_error].sum(0) / self.descending.add(block, absolute)

    def _is_empty(self, node: Tensor) -> bool:
        return self.layout.first_error <= int(node) < self.layout.first_target


def _selected(path: Path, selected: Int[Tensor, " feature"], active: Int[Tensor, "..."]) -> Int[Tensor, "feature 3"]:
    """The selected features' layers, positions and numbers."""
    fits = active.ndim == 2 and active.shape[1] == 3
    if not fits or (len(selected) and not 0 <= int(selected.min()) <= int(selected.max()) < len(active)):
        raise _refused(path, f"{len(selected)} features selected of active_features {tuple(active.shape)}")
    return active[selected]


def _sorted_order(path: Path, places: Int[Tensor, "feature 3"], n_layers: int, n_pos: int) -> Int[Tensor, " feature"]:
    """Indices that bring features into the order of a layout."""
    limits = torch.tensor([n_layers, n_pos, torch.iinfo(torch.int64).max])
    if len(places.unique(dim=0)) != len(places) or bool((places < 0).any() | (places >= limits).any()):
        raise _refused(path, f"features twice or outside {n_layers} layers and {n_pos} positions")
    order = torch.arange(len(places))
    for column in (2, 1, 0):
        order = order[places[order, column].argsort(stable=True)]
    return order


def _activations(
    path: Path, values: Float[Tensor, " value"], selected: Int[Tensor, " feature"], n_active: int
) -> Float[Tensor, " feature"]:
    """Activations of the selected features; files list them for the active features or for the selected ones."""
    if len(values) == n_active:
        return values[selected]
    if len(values) != len(selected):
        raise _refused(path, f"{len(values)} activation_values for {n_active} active features")
    return values


def _n_layers(path: Path, found: dict[str, Any], *, n_rest: int, n_pos: int) -> int:
    """Layers by the size of the matrix, which must be what the settings in the file say."""
    shape = found["adjacency_matrix"].shape
    n_layers = (shape[0] - n_rest) // n_pos - 1 if n_pos and len(shape) == 2 else -1
    state = found["cfg"].state if isinstance(found.get("cfg"), Inert) else found.get("cfg")
    stated = state.get("n_layers", n_layers) if isinstance(state, dict) else n_layers
    n_nodes = n_rest + (n_layers + 1) * n_pos
    is_whole = shape == (n_nodes, n_nodes) and n_nodes <= _MOST_NODES
    if n_layers < 0 or not is_whole or stated != n_layers:
        raise _refused(path, f"adjacency_matrix {tuple(shape)}, {n_rest} features and targets, {n_pos} tokens")
    return n_layers


def _targets(
    path: Path, values: dict[str, Any], text_of: Callable[[int], str], pos: int, probabilities: list[float]
) -> tuple[Target, ...]:
    listed = values["logit_targets"] if "logit_targets" in values else values.get("logit_tokens")
    if isinstance(listed, ArchivedTensor):
        listed = [("", token_id) for token_id in listed.whole().flatten().tolist()]
    state = values["cfg"].state if isinstance(values.get("cfg"), Inert) else {}
    vocab_size = values.get("vocab_size") or (state.get("d_vocab") if isinstance(state, dict) else None)
    if not isinstance(listed, list) or len(listed) != len(probabilities) or not listed:
        raise _refused(path, f"no list of {len(probabilities)} targets")
    targets = []
    for entry, probability in zip(listed, probabilities, strict=True):
        pair = entry.arguments if isinstance(entry, Inert) and entry.name == "LogitTarget" else entry
        match pair:
            case (str() as text, int() as index) if math.isfinite(probability) and 0 <= index < _MOST_TOKEN_ID:
                is_token = not isinstance(vocab_size, int) or index < vocab_size
                text = text or (text_of(index) if is_token else f"target {index - (vocab_size or 0)}")
                token_id = index if is_token else None
                targets.append(Target(token=text, token_id=token_id, pos=pos, weight=probability, logit=math.nan))
            case _:
                raise _refused(path, "a target that is no text with an index and a probability")
    return tuple(targets)


def _refused(path: Path, found: str) -> DataError:
    return refused(
        path, found=found, expected="a graph of circuit-tracer", to_do="Give a file that its Graph.to_pt wrote."
    )
