"""Arithmetic of a graph's rows, counted by formula, and how fast this machine multiplies matrices of their shapes."""

import time

import torch

from tests.benchmarks.shapes import Shape
from tracer.graph.graph import Graph

N_RATE_ROWS = 4096
"""Vectors in the measured product; the engine's passes hold about as many or more."""


def row_flops(graph: Graph, shape: Shape) -> float:
    """Floating-point operations of a plain backward sweep for every row of a graph.

    Per row, per layer below where it reads and per position that it sees: the read vector against `W_O`, mixed by the
    patterns, against `W_V` (once per key-value head), against the vectors that features wrote there, and the error. A
    multiplication with its addition counts as two. The special token's position is left out: nothing there needs a row.
    """
    layers, positions = graph.layout.features[:, 0], graph.layout.features[:, 1]
    n_layers, n_pos, d_model = shape.n_layers, graph.layout.n_pos, shape.d_model
    n_written = torch.zeros(n_layers, n_pos).index_put_(
        (layers, positions), torch.ones(len(layers)), accumulate=True
    )  # fmt: skip
    if shape.cross_layer:
        n_written = n_written.cumsum(0)
    sources = (n_written + 1).cumsum(1).cumsum(0)
    """Per layer and position: vectors written at or below that layer, at or before that position."""
    row_layers = torch.cat([layers[graph.has_row], torch.full((len(graph.targets),), n_layers)])
    row_positions = torch.cat([positions[graph.has_row], torch.tensor([target.pos for target in graph.targets])])
    n_seen = row_positions.double()
    n_sweeps = (row_layers + 1).clamp_max(n_layers).double()
    width, kv_width = shape.n_heads * shape.d_head, shape.n_kv_heads * shape.d_head
    attention = 2 * d_model * (width + kv_width) * n_seen + width * n_seen * (n_seen + 1)
    below = (row_layers - 1).clamp_min(0)
    contracted = torch.where(row_layers > 0, sources[below, row_positions].double(), 0.0) + n_seen + 1
    return float((n_sweeps * attention + 2 * d_model * contracted).sum())


def matrix_rate(shape: Shape, device: str, precision: str, *, seconds: float = 1.0) -> float:
    """Floating-point operations per second of a plain product (vectors, d_model) @ (d_model, heads * d_head)."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    vectors = torch.randn(N_RATE_ROWS, shape.d_model, device=device, dtype=dtype)
    weights = torch.randn(shape.d_model, shape.n_heads * shape.d_head, device=device, dtype=dtype)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    best, spent = float("inf"), 0.0
    while spent < seconds:
        start = time.perf_counter()
        vectors @ weights
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * vectors.numel() * weights.shape[1] / best
