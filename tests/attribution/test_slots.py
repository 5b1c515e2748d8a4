"""Vectors in slots: products are those of each position by itself, and no position makes the others large."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tracer.attribution import slots
from tracer.attribution.columns import passes, rising_span
from tracer.attribution.slots import contract, padded

WIDTH = 3


def vectors_at(counts: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions, nodes and vectors of a prompt with so many sources at each position, in any order."""
    generator = torch.Generator().manual_seed(seed)
    pos = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = torch.randperm(len(pos), generator=generator)
    return pos[order], order, torch.randn(len(pos), WIDTH, generator=generator)


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    n_rows=st.integers(1, 9),
    seed=st.integers(0, 99),
    is_rising=st.booleans(),
)
def test_products_by_slots_are_those_by_position(counts: list[int], n_rows: int, seed: int, is_rising: bool) -> None:
    pos, node, vectors = vectors_at(counts, seed)
    row_pos = torch.randint(len(counts), (n_rows,), generator=torch.Generator().manual_seed(seed))
    if is_rising:
        span = rising_span(row_pos, len(counts), worth_a_block=1.0)
    else:
        ((span,),) = passes([row_pos + 1], max_columns=10**6, max_rows=10**6, worth_a_block=1.0)
    columns = torch.randn(span.n_columns, WIDTH, generator=torch.Generator().manual_seed(seed + 1))
    n_nodes = len(pos)
    found = torch.zeros(n_nodes + 2, n_rows)
    least, slots.MIN_PADDED_SLOTS = slots.MIN_PADDED_SLOTS, 0
    try:
        parts = padded(pos, node, vectors, len(counts), n_nodes + 1)
    finally:
        slots.MIN_PADDED_SLOTS = least
    contract(span, columns, parts, found)
    expected = torch.zeros(n_nodes, n_rows)
    for block in span.blocks:
        part = columns[block.columns].view(block.n_pos, block.n_rows, WIDTH)
        for source in range(n_nodes):
            place = int(pos[source]) - block.first_pos
            if 0 <= place < block.n_pos:
                expected[node[source], : block.n_rows] += part[place] @ vectors[source]
    torch.testing.assert_close(found[:n_nodes], expected, atol=1e-5, rtol=1e-5)


def test_one_full_position_does_not_make_the_others_as_large() -> None:
    counts = [20] * 500 + [5000] + [20] * 500
    pos, node, vectors = vectors_at(counts, seed=0)
    parts = padded(pos, node, vectors, len(counts), no_node=len(pos))
    assert sum(part.node.numel() for part in parts) <= slots.MAX_PADDING * sum(counts)
    assert len(parts) == 3
    assert sorted(torch.cat([part.node.flatten() for part in parts]).unique().tolist())[: len(pos)] == list(
        range(len(pos))
    )


def test_positions_of_like_fullness_lie_in_one_group() -> None:
    pos, node, vectors = vectors_at([30, 50, 40] * 200, seed=1)
    assert len(padded(pos, node, vectors, 600, no_node=len(pos))) == 1
