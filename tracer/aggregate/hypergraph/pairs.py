"""How many graphs do two items share? Exact counts, of all pairs that share many or of the pairs that are given.

Each item's graphs are gathered as rows of a table of bits (`bits`) in which the commonest items have a bit each, and
added up: that gives the item's counts with all of those at once. The other items have no bit of their own but share a
second table's, in groups: a group that an item meets less often than `min_support` holds no partner for it, which
leaves few items whose pairs in there are counted one by one, as a product of sparse matrices.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.hypergraph.bits import N_BITS, RowAdder, Words, bit_table
from tracer.aggregate.hypergraph.ranked import Ranked
from tracer.aggregate.incidence import Incidence, Ints
from tracer.aggregate.tasks import TaskMap, in_process

ROWS_AT_ONCE = 16_384
"""Rows of a table that are added up together: they and what adding takes fit a core's cache."""
ROWS_PER_TASK = 2_000_000
PRODUCTS_AT_ONCE = 4_000_000
GRAPHS_AT_ONCE = 2048

Counts = npt.NDArray[np.integer]
_Found = tuple[Ints, Ints, Counts]
"""Of pairs: the rarer rank, the commoner one, shared graphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pairs of items: `first` < `second`, and the number of graphs that hold both, each [n_pairs]; sorted."""

    first: Ints
    second: Ints
    support: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """What counting reads: `common` has a bit for each of the `N_BITS` commonest items, `groups` for groups of others.

    `rare` [n_graphs, n_ranks - N_BITS] is the incidence of those others, and `in_group` [n_ranks - N_BITS] counts for
    each the graphs that hold another of its group too. These three are None where there are no others.
    """

    by_rank: sparse.csr_array
    common: Words
    groups: Words | None
    in_group: Ints | None
    rare: sparse.csr_array | None

    @classmethod
    def of(cls, ranked: Ranked, *, with_groups: bool) -> "_Tables":
        start, ranks = ranked.by_graph.indptr, ranked.by_graph.indices
        common = bit_table(start, ranks)
        if len(ranked.item) <= N_BITS:
            return cls(by_rank=ranked.by_rank, common=common, groups=None, in_group=None, rare=None)
        rare = ranked.by_graph[:, N_BITS:]
        # next to each other in rank means unlike in group: every group gets as many graphs
        groups = bit_table(rare.indptr, rare.indices % N_BITS) if with_groups else None
        in_group = _meetings_in_group(rare) if with_groups else None
        return cls(by_rank=ranked.by_rank, common=common, groups=groups, in_group=in_group, rare=rare)


def count_pairs(incidence: Incidence, min_support: int, run: TaskMap = in_process) -> Pairs:
    """Count the graphs that each two items share and list the pairs that share at least `min_support`, which is > 0."""
    ranked = Ranked.of(incidence, min_support)
    tables = _Tables.of(ranked, with_groups=True)
    bounds = _cuts(ranked.support)
    blocks = [(int(start), int(stop), min_support) for start, stop in zip(bounds, bounds[1:], strict=False)]
    item = ranked.item
    del ranked
    found = [
        (np.minimum(item[rare], item[common]), np.maximum(item[rare], item[common]), support)
        for rare, common, support in run(_frequent_partners, tables, blocks)
    ]
    if not found:
        return Pairs(first=np.zeros(0, np.int64), second=np.zeros(0, np.int64), support=np.zeros(0, np.int64))
    first, second, support = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((second, first))
    return Pairs(first=first[order], second=second[order], support=support[order].astype(np.int64))


def count_given_pairs(incidence: Incidence, first: Ints, second: Ints, run: TaskMap = in_process) -> Ints:
    """The graphs that hold both items of each given pair, [n_pairs]; an item with itself has its own support."""
    ranked = Ranked.of(incidence, 1, among=np.union1d(first, second))
    rank_of = np.full(incidence.matrix.shape[1], -1, np.int64)
    rank_of[ranked.item] = np.arange(len(ranked.item))
    one, other = rank_of[first], rank_of[second]
    support = np.zeros(len(first), np.int64)
    is_held = (one >= 0) & (other >= 0)
    places = np.flatnonzero(is_held)
    rare, common = np.maximum(one[places], other[places]), np.minimum(one[places], other[places])
    order = np.argsort(rare, kind="stable")
    places, rare, common = places[order], rare[order], common[order]
    bounds = np.searchsorted(rare, _cuts(ranked.support))
    blocks = [
        (rare[start:stop], common[start:stop]) for start, stop in zip(bounds, bounds[1:], strict=False) if start < stop
    ]
    counts = run(_given_partners, _Tables.of(ranked, with_groups=False), blocks)
    support[places] = np.concatenate([*counts, np.zeros(0, np.int64)])
    return support


def _cuts(support: Ints) -> Ints:
    """Where ranks are cut into blocks of about `ROWS_PER_TASK` rows to add."""
    rows = np.concatenate([[0], np.cumsum(support)])
    return np.unique(np.searchsorted(rows, np.append(np.arange(0, rows[-1], ROWS_PER_TASK), rows[-1])))


def _meetings_in_group(rare: sparse.csr_array) -> Ints:
    """For each item the graphs that hold another item of its group too."""
    meetings = np.zeros(rare.shape[1], np.int64)
    for start in range(0, rare.shape[0], GRAPHS_AT_ONCE):
        bounds = rare.indptr[start : start + GRAPHS_AT_ONCE + 1]
        held = rare.indices[bounds[0] : bounds[-1]]
        place = np.repeat(np.arange(len(bounds) - 1) * N_BITS, np.diff(bounds)) + held % N_BITS
        meetings += np.bincount(held[np.bincount(place)[place] > 1], minlength=len(meetings))
    return meetings


def _frequent_partners(tables: _Tables, block: tuple[int, int, int]) -> _Found:
    """Pairs of a rank from `start` to `stop` - 1 with a commoner one that share enough graphs."""
    start, stop, min_support = block
    ranks = np.arange(start, stop)
    found = []
    for some, counts in _added(tables.by_rank, tables.common, ranks):
        row, partner = np.nonzero(counts >= min_support)
        is_commoner = partner < some[row]
        row, partner = row[is_commoner], partner[is_commoner]
        found.append((some[row], partner, counts[row, partner]))
    for some, product in _products(tables, _unsettled(tables, ranks[ranks > N_BITS], min_support)):
        row, partner = product.coords
        partner = partner.astype(np.int64) + N_BITS
        is_listed = (partner < some[row]) & (product.data >= min_support)
        found.append((some[row[is_listed]], partner[is_listed], product.data[is_listed]))
    rare, common, support = (np.concatenate([*columns]) for columns in zip(*found, strict=True))
    return rare, common, support


def _unsettled(tables: _Tables, ranks: Ints, min_support: int) -> Ints:
    """Which of these ranks meet a group often enough that a partner may be in it."""
    if tables.groups is None or tables.in_group is None:
        return ranks[:0]
    unsettled = []
    for some, counts in _added(tables.by_rank, tables.groups, ranks):
        counts[np.arange(len(some)), (some - N_BITS) % N_BITS] = tables.in_group[some - N_BITS]
        unsettled.append(some[(counts >= min_support).any(axis=1)])
    return np.concatenate([*unsettled, ranks[:0]])


def _given_partners(tables: _Tables, block: tuple[Ints, Ints]) -> Ints:
    """Shared graphs of each pair of a rank and one at least as common; the first sorted."""
    rare, common = block
    support = np.zeros(len(rare), np.int64)
    for some, counts in _added(tables.by_rank, tables.common, np.unique(rare)):
        start, stop = np.searchsorted(rare, [some[0], some[-1] + 1])
        places = start + np.flatnonzero(common[start:stop] < N_BITS)
        support[places] = counts[np.searchsorted(some, rare[places]), common[places]]
    for some, product in _products(tables, np.unique(rare[common >= N_BITS])):
        start, stop = np.searchsorted(rare, [some[0], some[-1] + 1])
        places = start + np.flatnonzero(common[start:stop] >= N_BITS)
        if len(places):
            support[places] = product.tocsr()[np.searchsorted(some, rare[places]), common[places] - N_BITS]
    return support


def _added(by_rank: sparse.csr_array, table: Words, ranks: Ints) -> Iterator[tuple[Ints, Counts]]:
    """How often each bit is set in the graphs of each rank, some ranks at a time."""
    adder = RowAdder()
    start, sizes = by_rank.indptr[ranks].astype(np.int64), by_rank.indptr[ranks + 1] - by_rank.indptr[ranks]
    first = 0
    while first < len(ranks):
        # sizes fall with rank: no list of the batch is longer than the first
        batch = slice(first, first + max(1, ROWS_AT_ONCE // max(int(sizes[first]), 1)))
        place = np.arange(sizes[first])[:, None]
        is_there = place < sizes[batch]
        graphs = by_rank.indices[np.where(is_there, start[batch] + place, 0)]
        yield ranks[batch], adder.sums(table, np.where(is_there, graphs, len(table) - 1))
        first = batch.stop


def _products(tables: _Tables, ranks: Ints) -> Iterator[tuple[Ints, sparse.coo_array]]:
    """Shared graphs of some ranks at a time with every item that has no bit of its own, [n_some, n_ranks - N_BITS]."""
    if tables.rare is None or len(ranks) == 0:
        return
    sizes = tables.by_rank.indptr[ranks + 1] - tables.by_rank.indptr[ranks]
    n_held = tables.rare.nnz / tables.rare.shape[0]
    part = (np.cumsum(sizes) * max(n_held, 1.0) // PRODUCTS_AT_ONCE).astype(np.int64)
    for some in np.split(ranks, np.flatnonzero(np.diff(part)) + 1):
        yield some, (tables.by_rank[some].astype(np.int32) @ tables.rare).tocoo()
