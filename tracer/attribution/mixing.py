"""Attention of one layer backwards: from vectors that read head outputs to vectors that read values.

`values[kv, key, row] = sum over queries and the heads of a group of pattern[head, query, key] read[head, query, row]`,
the norm scales being part of the pattern. Keys count from the first token, queries from the first that is not ignored.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.columns import Span

MAX_PADDED_POSITIONS = 64
"""Up to here one product over padded rows is faster than one a block; beyond, the zeros cost more."""


def mixed_values(
    span: Span, shares: Float[Tensor, "kv all_key group query"], outputs: Float[Tensor, "column head_d"]
) -> Float[Tensor, "kv key row d_head"]:
    """What reads the values of a layer, from what reads its head outputs at every position of a span."""
    n_kv, n_keys, n_group = shares.shape[0], shares.shape[1] - shares.shape[3] + span.n_pos, shares.shape[2]
    n_rows, d_head = len(span.rows), outputs.shape[1] // (n_kv * n_group)
    if span.n_pos > MAX_PADDED_POSITIONS:
        return _mixed_by_block(span, shares, outputs, n_keys, d_head)
    padded = outputs.new_zeros(n_kv, n_group, span.n_pos, n_rows, d_head)
    for block in span.blocks:
        part = outputs[block.columns].view(block.n_pos, block.n_rows, n_kv, n_group, d_head)
        padded[:, :, block.positions, : block.n_rows] = part.permute(2, 3, 0, 1, 4)
    mixing = shares[:, :n_keys, :, : span.n_pos].flatten(2)
    mixed = torch.bmm(mixing, padded.view(n_kv, n_group * span.n_pos, n_rows * d_head))
    return mixed.view(n_kv, n_keys, n_rows, d_head)


def _mixed_by_block(
    span: Span, shares: Float[Tensor, "kv all_key group query"], outputs: Tensor, n_keys: int, d_head: int
) -> Float[Tensor, "kv key row d_head"]:
    n_kv, n_ignored, n_group = shares.shape[0], shares.shape[1] - shares.shape[3], shares.shape[2]
    values = outputs.new_zeros(n_kv, n_keys, len(span.rows), d_head)
    for block in span.blocks:
        part = outputs[block.columns].view(block.n_pos, block.n_rows, n_kv, n_group, d_head)
        reads = part.permute(2, 3, 0, 1, 4).reshape(n_kv, n_group * block.n_pos, -1)
        n_seen = n_ignored + block.positions.stop
        found = torch.bmm(shares[:, :n_seen, :, block.positions].flatten(2), reads)
        values[:, :n_seen, : block.n_rows] += found.view(n_kv, n_seen, block.n_rows, d_head)
    return values


def mixed_values_of_own(
    span: Span,
    shares: Float[Tensor, "kv all_key group query"],
    outputs: Float[Tensor, "row head_d"],
    pos: Int[Tensor, " row"],
) -> Float[Tensor, "kv key row d_head"]:
    """The same where each row reads one position only."""
    n_kv, _, n_group, n_queries = shares.shape
    seen = shares[:, : shares.shape[1] - n_queries + span.n_pos, :, pos]
    by_head = outputs.view(len(outputs), n_kv, n_group, -1)
    if n_group == 1:
        return seen[:, :, 0, :, None] * by_head[:, :, 0].transpose(0, 1)[:, None]
    return torch.einsum("vkgr,rvge->vkre", seen, by_head)
