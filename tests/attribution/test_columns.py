"""How read vectors are laid out: nothing lost, nothing twice, limits kept."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from tracer.attribution.columns import passes, rising_span

CONES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), min_size=1, max_size=4)


@given(CONES, st.integers(1, 60), st.integers(1, 12), st.floats(0.5, 50.0))
def test_every_row_is_in_one_pass_and_every_position_it_sees_has_one_column(
    cones: list[list[int]], max_columns: int, max_rows: int, worth_a_block: float
) -> None:
    lengths = [torch.tensor(cone) for cone in cones]
    seen = [torch.zeros(len(cone), dtype=torch.long) for cone in cones]
    for spans in passes(lengths, max_columns=max_columns, max_rows=max_rows, worth_a_block=worth_a_block):
        used = []
        for span in spans:
            seen[span.request][span.rows] += 1
            for place, row in enumerate(span.rows.tolist()):
                pos = torch.arange(cones[span.request][row])
                columns = span.column_of(pos, torch.full_like(pos, place))
                used += columns.tolist()
        n_columns = sum(span.n_columns for span in spans)
        assert len(used) == len(set(used))
        assert all(0 <= column < n_columns for column in used)
        assert sum(len(span.rows) for span in spans) <= max_rows
    assert all(bool((counts == 1).all()) for counts in seen)


@given(CONES, st.integers(1, 60))
def test_without_block_waste_a_pass_has_no_column_that_no_row_sees(cones: list[list[int]], max_columns: int) -> None:
    lengths = [torch.tensor(cone) for cone in cones]
    for spans in passes(lengths, max_columns=max_columns, max_rows=1000, worth_a_block=1e-9):
        needed = sum(int(lengths[span.request][span.rows].sum()) for span in spans)
        assert sum(span.n_columns for span in spans) == needed
        assert needed <= max_columns or sum(len(span.rows) for span in spans) == 1


@given(st.lists(st.integers(0, 11), min_size=1, max_size=40), st.floats(0.5, 50.0))
def test_a_rising_span_has_a_column_for_every_source_from_its_position_on(
    positions: list[int], worth_a_block: float
) -> None:
    pos = torch.tensor(positions)
    span = rising_span(pos, 12, worth_a_block)
    used = []
    for place, row in enumerate(span.rows.tolist()):
        later = torch.arange(positions[row], 12)
        used += span.column_of(later, torch.full_like(later, place)).tolist()
    assert len(used) == len(set(used)) == sum(12 - place for place in positions)
    assert max(used) < span.n_columns
