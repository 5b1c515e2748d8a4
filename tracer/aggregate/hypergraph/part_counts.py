"""Counts the graphs that hold the parts of sets, by cell (length and stratum), by single bits.

Each item has a row with one bit for each graph, the graphs of a cell next to each other in words of their own: a part
is in the graphs whose bits are set in the rows of all its members.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tracer.aggregate.hypergraph.bits import WORDS_AT_ONCE, Words, in_all, set_bits
from tracer.aggregate.hypergraph.ranked import Ranks
from tracer.aggregate.incidence import Incidence, Ints

GRAPHS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class CellBits:
    """Which graphs hold which item: `words` [n_items, n_words], a cell's from the one in `first` [n_cells] on. `row`
    [n_ranks] is where the item of a rank is, -1 for ranks without bits.
    """

    words: Words
    first: Ints
    row: Ints

    @classmethod
    def of(cls, incidence: Incidence, ranks: Ranks, chosen: Ints, cell: Ints, n_cells: int) -> "CellBits":
        """The bits of some ranks, ascending; `cell` [n_graphs] is below `n_cells`."""
        row = np.full(len(ranks.item), -1, np.int64)
        row[chosen] = np.arange(len(chosen))
        n_graphs = np.bincount(cell, minlength=n_cells)
        # a cell without graphs has a word too, so that sums between the first words of cells are those of cells
        first = np.concatenate([[0], np.cumsum(np.maximum(-(-n_graphs // 64), 1))])
        place = np.empty(len(cell), np.int64)
        place[np.argsort(cell, kind="stable")] = np.arange(len(cell)) + np.repeat(
            64 * first[:-1] - np.cumsum(n_graphs) + n_graphs, n_graphs
        )
        words = np.zeros((len(chosen), int(first[-1])), np.uint64)
        for start, held, bounds in ranks.held(incidence, GRAPHS_AT_ONCE):
            is_chosen = row[held] >= 0
            at = np.repeat(place[start : start + len(bounds) - 1], np.diff(bounds))[is_chosen]
            set_bits(words, row[held[is_chosen]], at)
        return cls(words=words, first=first[:-1], row=row)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCounts:
    """Graphs that hold each distinct part of sets.

    `counts` [n_parts, n_cells] is by cell of the graphs. `place` gives for the positions of a part in a set's members
    where each set's part is in `counts`, [n_sets].
    """

    counts: Ints
    place: dict[tuple[int, ...], Ints]


def part_counts(bits: CellBits, members: Ints, n_members: int) -> PartCounts:
    """Count the graphs of all parts of `n_members`.

    Args:
        bits: which graphs hold which item.
        members: ranks of each set, [n_sets, size].
        n_members: members of a part, fewer than of a set.
    """
    positions = list(combinations(range(members.shape[1]), n_members))
    distinct, place = _distinct_rows(np.concatenate([members[:, chosen] for chosen in positions]))
    counts = np.empty((len(distinct), len(bits.first)), np.int64)
    step = max(1, WORDS_AT_ONCE // bits.words.shape[1])
    for start in range(0, len(distinct), step):
        together = in_all(bits.words, bits.row[distinct[start : start + step]])
        counts[start : start + step] = np.add.reduceat(np.bitwise_count(together), bits.first, axis=1, dtype=np.int32)
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
