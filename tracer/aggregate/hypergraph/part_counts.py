"""Counts the graphs that hold the parts of sets, by cell (length and stratum)."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tracer.aggregate.hypergraph.ranked import Places, Ranked
from tracer.aggregate.hypergraph.set_closure import graphs_of_sets
from tracer.aggregate.hypergraph.set_search import dense_block
from tracer.aggregate.incidence import Ints

ROWS_AT_ONCE = 16_384
PARTS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCounts:
    """Graphs that hold each distinct part of sets.

    `counts` [n_parts, n_cells] is by cell of the graphs. `place` gives for the positions of a part in a set's members
    where each set's part is in `counts`, [n_sets].
    """

    counts: Ints
    place: dict[tuple[int, ...], Ints]


def part_counts(ranked: Ranked, cell: Ints, n_cells: int, members: Ints, n_members: int) -> PartCounts:
    """Count the graphs of all parts of `n_members`.

    Args:
        ranked: the incidence.
        cell: the cell of each graph, [n_graphs].
        n_cells: number of cells.
        members: ascending ranks of each set, [n_sets, size].
        n_members: members of a part, fewer than of a set.
    """
    positions = list(combinations(range(members.shape[1]), n_members))
    parts = np.concatenate([members[:, chosen] for chosen in positions])
    distinct, place = _distinct_rows(parts)
    counts = np.zeros((len(distinct), n_cells), np.int64)
    order = np.argsort(distinct[:, -1], kind="stable")
    bounds = np.flatnonzero(np.diff(distinct[order, -1])) + 1
    for of_rarest in np.split(order, bounds):
        graphs = ranked.graphs_of(int(distinct[of_rarest[0], -1]))
        counts[of_rarest] = _by_cell(ranked, graphs, cell, n_cells, distinct[of_rarest])
    return PartCounts(counts=counts, place=dict(zip(positions, place.reshape(len(positions), -1), strict=True)))


def _distinct_rows(rows: Ints) -> tuple[Ints, Ints]:
    """Distinct rows and the place of each row in them, by way of one number for each row."""
    n_values = int(rows.max()) + 1
    number = rows[:, 0].astype(np.int64)
    for column in rows.T[1:]:
        if int(number.max()) + 1 > np.iinfo(np.int64).max // n_values:
            number = np.unique(number, return_inverse=True)[1]
        number = number * n_values + column
    _, first, place = np.unique(number, return_index=True, return_inverse=True)
    return rows[first], place


def _by_cell(ranked: Ranked, graphs: Places, cell: Ints, n_cells: int, parts: Ints) -> Ints:
    """Graphs by cell that hold each part; the graphs of the parts' common rarest member are given."""
    items = np.unique(parts)
    columns = np.searchsorted(items, parts)
    counts = np.zeros((len(parts), n_cells), np.int64)
    graphs = graphs[np.argsort(cell[graphs], kind="stable")]
    for start in range(0, len(graphs), ROWS_AT_ONCE):
        some = graphs[start : start + ROWS_AT_ONCE]
        by_item = np.ascontiguousarray(dense_block(ranked.by_graph[some], items).T)
        cells, bounds = np.unique(cell[some], return_index=True)
        for first in range(0, len(parts), PARTS_AT_ONCE):
            marks = graphs_of_sets(by_item, columns[first : first + PARTS_AT_ONCE])
            counts[first : first + PARTS_AT_ONCE, cells] += np.add.reduceat(marks, bounds, axis=1, dtype=np.int32)
    return counts
