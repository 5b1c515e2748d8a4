"""Attention of one layer backwards: from vectors that read head outputs to vectors that read values.

`values[kv, key, row] = sum over queries and the heads of a group of pattern[head, query, key] read[head, query, row]`,
the norm scales being part of the pattern. Keys count from the first token, queries from the first that is not ignored.
Prompts side by side have their key-value heads one after the other.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.columns import Block, Span

MAX_PADDED_POSITIONS = 64
"""Up to here one product over padded rows is faster than one a block; beyond, the zeros cost more."""


def mixed_values(
    span: Span, shares: Float[Tensor, "prompt_kv all_key group query"], outputs: Float[Tensor, "column head_d"]
) -> Float[Tensor, "prompt_kv key row d_head"]:
    """What reads the values of a layer, from what reads its head outputs at every position of a span."""
    n_all, n_keys, n_group = shares.shape[0], shares.shape[1] - shares.shape[3] + span.n_pos, shares.shape[2]
    n_kv, n_rows = n_all // span.n_prompts, len(span.rows)
    d_head = outputs.shape[1] // (n_kv * n_group)
    if span.n_pos > MAX_PADDED_POSITIONS:
        return _mixed_by_block(span, shares, outputs, n_keys, d_head)
    padded = outputs.new_zeros(span.n_prompts, n_kv, n_group, span.n_pos, n_rows, d_head)
    for block in span.blocks:
        padded[:, :, :, block.positions, : block.n_rows] = _by_head(block, outputs, n_kv, n_group)
    mixing = shares[:, :n_keys, :, : span.n_pos].flatten(2)
    mixed = torch.bmm(mixing, padded.view(n_all, n_group * span.n_pos, n_rows * d_head))
    return mixed.view(n_all, n_keys, n_rows, d_head)


def _by_head(block: Block, outputs: Tensor, n_kv: int, n_group: int) -> Float[Tensor, "prompt kv group pos row d_head"]:
    part = outputs[block.columns].view(block.n_pos, block.n_prompts, block.n_rows, n_kv, n_group, -1)
    return part.permute(1, 3, 4, 0, 2, 5)


def _mixed_by_block(
    span: Span, shares: Float[Tensor, "prompt_kv all_key group query"], outputs: Tensor, n_keys: int, d_head: int
) -> Float[Tensor, "prompt_kv key row d_head"]:
    n_all, n_ignored, n_group = shares.shape[0], shares.shape[1] - shares.shape[3], shares.shape[2]
    values = outputs.new_zeros(n_all, n_keys, len(span.rows), d_head)
    for block in span.blocks:
        part = _by_head(block, outputs, n_all // span.n_prompts, n_group)
        reads = part.reshape(n_all, n_group * block.n_pos, -1)
        n_seen = n_ignored + block.positions.stop
        found = torch.bmm(shares[:, :n_seen, :, block.positions].flatten(2), reads)
        values[:, :n_seen, : block.n_rows] += found.view(n_all, n_seen, block.n_rows, d_head)
    return values


def mixed_values_of_own(
    span: Span,
    shares: Float[Tensor, "prompt_kv all_key group query"],
    outputs: Float[Tensor, "read head_d"],
    place: Int[Tensor, " read"],
    row: Int[Tensor, " read"],
) -> Float[Tensor, "prompt_kv key row d_head"]:
    """The same where each row reads one place only, in a prompt of which it is the only such row."""
    n_all, n_all_keys, n_group, n_queries = shares.shape
    n_prompts, n_keys = span.n_prompts, n_all_keys - n_queries + span.n_pos
    by_head = outputs.view(len(outputs), n_all // n_prompts, n_group, -1)
    if n_prompts == 1:
        return _spread(shares[:, :n_keys, :, place].permute(3, 0, 1, 2), by_head).permute(1, 2, 0, 3)
    prompt, pos = place % n_prompts, place // n_prompts
    seen = shares.unflatten(0, (n_prompts, -1))[prompt, :, :n_keys, :, pos]
    values = outputs.new_zeros(n_prompts, n_all // n_prompts, n_keys, len(span.rows), by_head.shape[-1])
    values[prompt, :, :, row] = _spread(seen, by_head)
    return values.flatten(0, 1)


def _spread(
    seen: Float[Tensor, "read kv key group"], outputs: Float[Tensor, "read kv group d_head"]
) -> Float[Tensor, "read kv key d_head"]:
    if seen.shape[-1] == 1:
        return seen * outputs
    return torch.einsum("rvkg,rvgd->rvkd", seen, outputs)
