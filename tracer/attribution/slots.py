"""Vectors of nodes at each position, padded to tensors, and their products with the vectors of rows.

Where several prompts lie side by side, a position here is a place: a position of one of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.columns import Span

MAX_PADDING = 2.0
"""Slots over vectors: beyond, positions are padded in groups, lest one full position make all others as large."""
MIN_PADDED_SLOTS = 8192
"""But never where there are no more slots than this: a group costs calls, a slot only its vector."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Vectors at consecutive positions, as many slots at each as the fullest of them needs.

    `node` is the vector's node, `n_nodes` for what no node accounts for, `n_nodes + 1` where there is nothing.
    """

    first_pos: int
    vectors: Float[Tensor, "pos slot width"]
    node: Int[Tensor, "pos slot"]

    def shared(self, positions: slice) -> slice:
        """Those of some positions that are here."""
        first = max(positions.start, self.first_pos)
        return slice(first, max(first, min(positions.stop, self.first_pos + len(self.node))))


def padded(
    pos: Int[Tensor, " source"],
    node: Int[Tensor, " source"],
    vectors: Float[Tensor, "source d_model"],
    n_pos: int,
    no_node: int,
) -> tuple[Slots, ...]:
    """Vectors in slots by position; the slots that are left over hold zeros and `no_node`."""
    if bool((pos[1:] < pos[:-1]).any()):
        order = pos.argsort(stable=True)
        pos, node, vectors = pos[order], node[order], vectors[order]
    counts = torch.bincount(pos, minlength=n_pos)
    ends = counts.cumsum(0)
    slot = torch.arange(len(pos), device=pos.device) - (ends - counts)[pos]
    parts = []
    for first, end in _groups(counts.tolist()):
        which = slice(int(ends[first - 1]) if first else 0, int(ends[end - 1]) if end else 0)
        shape = (end - first, max(counts[first:end].tolist(), default=0))
        slots, slot_nodes = vectors.new_zeros(*shape, vectors.shape[1]), node.new_full(shape, no_node)
        places = (pos[which] - first, slot[which])
        slots[places], slot_nodes[places] = vectors[which], node[which]
        parts.append(Slots(first_pos=first, vectors=slots, node=slot_nodes))
    return tuple(parts)


def _groups(counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Positions in groups, each with not many more slots than vectors."""
    if len(counts) * max(counts, default=0) <= max(MIN_PADDED_SLOTS, MAX_PADDING * sum(counts)):
        yield 0, len(counts)
        return
    first, n_vectors, fullest = 0, 0, 0
    for pos, count in enumerate(counts):
        wider = max(fullest, count)
        if pos > first and (pos + 1 - first) * wider > MAX_PADDING * (n_vectors + count):
            yield first, pos
            first, n_vectors, wider = pos, 0, count
        n_vectors, fullest = n_vectors + count, wider
    yield first, len(counts)


def contract(
    span: Span,
    columns: Float[Tensor, "column width"],
    slots: Sequence[Slots],
    found: Float[Tensor, "node_or_none row"],
) -> None:
    """Add the products of the rows' vectors with those of nodes at the same position to `found`, by node."""
    for part in slots:
        for block in span.blocks:
            shared = part.shared(block.places)
            if shared.start == shared.stop:
                continue
            in_part = slice(shared.start - part.first_pos, shared.stop - part.first_pos)
            in_block = slice(shared.start - block.places.start, shared.stop - block.places.start)
            vectors = columns[block.columns].view(block.n_places, block.n_rows, columns.shape[1])[in_block]
            edges = torch.bmm(part.vectors[in_part], vectors.transpose(1, 2)).flatten(0, 1)
            found[:, : block.n_rows].index_add_(0, part.node[in_part].flatten(), edges)
