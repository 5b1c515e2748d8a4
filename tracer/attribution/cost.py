"""What attribution costs, from shapes alone: memory of a process that holds a model, time of a prompt.

Arithmetic is counted by formula and divided by the rate at which the machine multiplies matrices; what is no large
product (calls from Python, sorting and writing edges) has measured constants. Both are checked against measurements by
`tests/benchmarks/estimate.py`, which also shows how the constants were found.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tracer.attribution.explicit import MIN_PASS_COLUMNS, PASS_BYTES
from tracer.attribution.graphs import EVERY_ROW_FLOPS
from tracer.attribution.meeting import LEAST_GAIN
from tracer.attribution.row_shares import layer_shares, rows_share

FLOAT_BYTES = 4
"""All arithmetic is float32."""
MB = 10**6
LIBRARIES_BYTES = 630 * MB
"""What a worker on the demo model takes beyond that model and its prompts; fitted. Imports alone are 330 MB of it."""
CUDA_LIBRARIES_BYTES, CUDA_CONTEXT_BYTES = 1_500 * MB, 600 * MB
"""What CUDA adds to that, and what a process takes of a GPU before its first tensor: usual figures, not measured."""
N_FORWARD_COPIES = 2
"""Captured tensors of a forward pass are held once by the hooks and once stacked."""
SLOTS_PER_VECTOR = 2
"""Written vectors are padded by position: 1.6 and 1.8 times as many at 16 tokens, 3.8 times at 64."""
N_PASS_COPIES = 3
"""Tensors of the size of a pass's read vectors that are alive at once."""

VECTOR_BYTES_PER_S = {"cpu": 8e9, "cuda": 2e12}
"""How fast vectors are written and read between the products of a sweep."""
WEIGHT_BYTES_PER_S = {"cpu": 5e9, "cuda": 2e12}
"""How fast weights are read: what a short prompt's forward pass waits for. Those of CUDA are usual figures."""
LAYER_S, STEP_S, NODE_S, PROMPT_S = 2.3e-3, 1.7e-3, 24e-6, 10e-3
"""Python's share: a layer of the forward pass, a layer of a sweep, a feature of the tables, and what is left.

The last is what the demo model took beyond the others: fitted, not measured by itself.
"""
ENTRY_S = 10e-9
"""An entry of a row: its absolute value, its share of influence, perhaps an edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A model and its transcoders, as their headers tell."""

    n_layers: int
    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_vocab: int
    n_parameters: int
    n_multiplied: int
    """Parameters that a token is multiplied with: all but embeddings that are looked up only."""
    n_features: int
    """Features of all layers."""
    n_decoder_floats: int
    cross_layer: bool
    n_skips: int
    """Layers with a skip connection."""
    lazy_encoder: bool
    lazy_decoder: bool
    model_is_mapped: bool
    """Whether the model's files hold float32, so that on a CPU they are used in place, shared between processes."""
    transcoders_are_mapped: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is asked of it."""

    n_tokens: int
    """Length of a prompt, the special token included."""
    n_together: int
    """Prompts of a pass."""
    n_active: float
    """Active features per layer and position."""
    coverage: float
    max_feature_nodes: int | None
    memory_budget_bytes: int

    def n_feature_nodes(self, shape: Shape) -> float:
        """Features of a graph; none fires on the special token."""
        return self.n_active * shape.n_layers * (self.n_tokens - 1)

    def share_of_rows(self, shape: Shape) -> float:
        """Share of the features whose rows are computed."""
        share = 1.0 if self.is_small(shape) else rows_share(self.coverage)
        if self.max_feature_nodes is None:
            return share
        return min(share, self.max_feature_nodes / max(1.0, self.n_feature_nodes(shape)))

    def is_small(self, shape: Shape) -> bool:
        """Whether a prompt is so little work that every row is computed, whatever the coverage."""
        n_columns = self.n_feature_nodes(shape) * self.n_tokens / 2
        return 4.0 * n_columns * shape.n_layers * shape.n_heads * shape.d_head * shape.d_model <= EVERY_ROW_FLOPS

    def layer_shares(self, shape: Shape) -> list[float]:
        """The same of each layer's features."""
        return layer_shares(self.share_of_rows(shape), shape.n_layers)

    def n_lower(self, shape: Shape) -> int:
        """Layers whose sources are pushed up instead of pulling rows down through them: not where rows are capped."""
        if self.max_feature_nodes is not None or self.is_small(shape):
            return 0
        room, shares = self.memory_budget_bytes / 8, self.layer_shares(shape)

        def n_passed(below: int) -> float:
            pulled = (share * (2 * (layer - below) + 1) for layer, share in enumerate(shares[below:], below))
            return below**2 + sum(pulled)

        fitting = (below for below in range(1, shape.n_layers) if self.pushed_bytes(shape, below) <= room)
        best = min(fitting, key=n_passed, default=0)
        return best if n_passed(best) < LEAST_GAIN * n_passed(0) else 0

    def pushed_bytes(self, shape: Shape, n_lower: int) -> float:
        """What that holds at most, were every source seen everywhere: by this it is decided."""
        n_features = self.n_feature_nodes(shape) * n_lower / shape.n_layers
        n_sources = n_features + (n_lower + 1) * self.n_tokens
        return self.n_together * FLOAT_BYTES * n_sources * (self.n_tokens * shape.d_model + 2 * n_features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One line of an account: bytes of memory, or seconds per prompt."""

    name: str
    amount: int | float
    is_shared: bool = False
    """Of memory: held once for all processes of a machine."""


def memory(shape: Shape, work: Work, device: str) -> tuple[list[Item], list[Item]]:
    """Peak memory of a process, by what takes it: of the host, and of the GPU where it works on one."""
    on_gpu = device != "cpu"
    loaded, prompt = _loaded(shape, mapped=not on_gpu), _of_prompts(shape, work, device)
    libraries = [Item(name="Python and libraries", amount=LIBRARIES_BYTES)]
    rows = _rows_bytes(shape, work)
    edges = Item(name="rows, and edges between kept nodes", amount=rows)
    if not on_gpu:
        return [*libraries, *loaded, *prompt, edges], []
    host = [*libraries, Item(name="CUDA libraries", amount=CUDA_LIBRARIES_BYTES), edges]
    return host, [Item(name="CUDA context", amount=CUDA_CONTEXT_BYTES), *loaded, *prompt]


def _loaded(shape: Shape, *, mapped: bool) -> list[Item]:
    n_folded = shape.n_layers * (shape.n_heads + shape.n_kv_heads) * shape.d_head * shape.d_model
    decoders = 0 if shape.lazy_decoder else shape.n_decoder_floats
    encoders = ((0 if shape.lazy_encoder else shape.n_features) + shape.n_skips * shape.d_model) * shape.d_model
    model_is_mapped, set_is_mapped = mapped and shape.model_is_mapped, mapped and shape.transcoders_are_mapped
    return [
        Item(name="model", amount=FLOAT_BYTES * shape.n_parameters, is_shared=model_is_mapped),
        Item(name="attention with its norms folded in", amount=FLOAT_BYTES * n_folded),
        Item(name="encoders", amount=FLOAT_BYTES * encoders, is_shared=set_is_mapped),
        Item(name="decoders", amount=FLOAT_BYTES * decoders, is_shared=set_is_mapped),
    ]


def _of_prompts(shape: Shape, work: Work, device: str) -> list[Item]:
    n_tokens, n_layers, n_nodes = work.n_tokens, shape.n_layers, work.n_feature_nodes(shape)
    n_captured = n_layers * (shape.n_heads * n_tokens**2 + 3 * n_tokens * shape.d_model) + n_tokens * shape.d_vocab
    n_written = (n_layers + 1) / 2 if shape.cross_layer else 1
    n_sources = n_nodes * n_written + 2 * n_layers * n_tokens
    n_rows = work.n_together * n_nodes / n_layers
    budget = work.memory_budget_bytes / 2
    read_vectors = min(
        max(PASS_BYTES[device], FLOAT_BYTES * MIN_PASS_COLUMNS * shape.d_model),
        budget / N_PASS_COPIES,
        FLOAT_BYTES * n_rows * n_tokens / 2 * shape.d_model,
    )
    found = min(budget / N_PASS_COPIES, FLOAT_BYTES * (n_nodes + (n_layers + 1) * n_tokens) * n_rows)
    # A position holds the sources that it sees, half of them on average.
    pushed = work.pushed_bytes(shape, work.n_lower(shape)) / 2 if work.n_lower(shape) else 0.0
    written = FLOAT_BYTES * SLOTS_PER_VECTOR * n_sources * shape.d_model
    forward = work.n_together * FLOAT_BYTES * N_FORWARD_COPIES * n_captured
    return [
        Item(name="forward pass of the prompts of a pass", amount=forward),
        Item(name="activations of a layer", amount=FLOAT_BYTES * 3 * n_tokens * shape.n_features / n_layers),
        Item(name="what sources write", amount=work.n_together * written + pushed),
        Item(name="read vectors of the rows computed at once", amount=N_PASS_COPIES * read_vectors + found),
    ]


def _rows_bytes(shape: Shape, work: Work) -> float:
    return min(FLOAT_BYTES * work.n_together * _n_entries(shape, work), work.memory_budget_bytes / 2)


def seconds(shape: Shape, work: Work, rate: float, device: str) -> list[Item]:
    """Time of a prompt by phase, where matrices are multiplied at `rate` floating-point operations per second."""
    n_weights = shape.n_multiplied + shape.n_features * shape.d_model
    forward = 2 * work.n_tokens * n_weights / rate + FLOAT_BYTES * n_weights / WEIGHT_BYTES_PER_S[device]
    # Small prompts lie side by side: what a sweep costs in calls is that of all of them.
    n_steps = shape.n_layers * (shape.n_layers + 3) / 2 / (work.n_together if work.is_small(shape) else 1)
    n_nodes = work.n_feature_nodes(shape)
    width = 2 * shape.d_model + (2 * shape.n_heads + shape.n_kv_heads) * shape.d_head
    vectors = 2 * FLOAT_BYTES * width * n_carried(shape, work) / VECTOR_BYTES_PER_S[device]
    rows, of_entries = row_flops(shape, work) / rate + vectors, ENTRY_S * _n_entries(shape, work)
    return [
        Item(name="forward pass and encoders", amount=forward + LAYER_S * shape.n_layers / work.n_together),
        Item(name="rows", amount=rows + STEP_S * n_steps),
        Item(name="influence, pruning and tables", amount=of_entries + NODE_S * n_nodes + PROMPT_S),
    ]


def row_flops(shape: Shape, work: Work) -> float:
    """Floating-point operations of the sweeps for a prompt's rows, features spread evenly over layers and positions.

    Per layer that a vector passes, a row's on its way down or a source's on its way up, and per position that it sees:
    the products with output and value weights and the mixing by the pattern; then all rows with all sources.
    """
    layer, n_seen = _grid(shape, work)
    n_passed, n_lower = _n_passed(shape, work), work.n_lower(shape)
    width, kv_width = shape.n_heads * shape.d_head, shape.n_kv_heads * shape.d_head
    products = 2 * shape.d_model * (width * (1 + n_passed * n_seen) + kv_width * n_passed * n_seen)
    mixing = 2 * width * (n_passed + 1) * n_seen**2
    # Down or up: vectors meet those of each layer they pass at every position; across the middle, all that came there.
    n_written = n_passed * (layer + 1) / 2 if shape.cross_layer else n_passed
    met = 2 * shape.d_model * n_seen * (work.n_active * n_written + 2 * n_passed)
    across = torch.where(layer < n_lower, 0.0, shape.d_model * n_seen**2 * (work.n_active + 1) * n_lower)
    return float(((products + mixing + met + across) * _n_vectors(shape, work)).sum())


def n_carried(shape: Shape, work: Work) -> float:
    """Vectors that pass a layer, a row's or a source's at one position, all layers together."""
    _, n_seen = _grid(shape, work)
    return float((_n_passed(shape, work) * n_seen * _n_vectors(shape, work)).sum())


def _grid(shape: Shape, work: Work) -> tuple[Tensor, Tensor]:
    """Layers as a column, positions that are seen as a row."""
    return torch.arange(shape.n_layers).double()[:, None], torch.arange(1, work.n_tokens).double()[None]


def _n_passed(shape: Shape, work: Work) -> Tensor:
    """Layers that the vector of a feature passes, by its layer."""
    layer, n_lower = _grid(shape, work)[0], work.n_lower(shape)
    return torch.where(layer < n_lower, n_lower - layer, layer - n_lower)


def _n_vectors(shape: Shape, work: Work) -> Tensor:
    """Vectors that do so at a position: every source of a lower layer, the rows that are computed of a higher one."""
    layer = _grid(shape, work)[0]
    shares = torch.tensor(work.layer_shares(shape)).double()[:, None]
    return work.n_active * torch.where(layer < work.n_lower(shape), 1.0, shares)


def _n_entries(shape: Shape, work: Work) -> float:
    """Entries of the rows that are computed: low rows have few."""
    layer = _grid(shape, work)[0][:, 0]
    shares = torch.tensor(work.layer_shares(shape)).double()
    n_rows, n_below = shares * work.n_active * (work.n_tokens - 1), work.n_active * layer * (work.n_tokens - 1)
    return float((n_rows * (n_below + (layer + 1) * work.n_tokens)).sum())
