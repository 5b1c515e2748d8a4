"""How many graphs do two items share? Exact counts, of all pairs that share many or of the pairs that are given.

Each item's graphs are gathered as rows of a table of bits (`bits`) in which the commonest items have a bit each, and
added up: that gives the item's counts with all of those at once. The other items have no bit of their own but share a
second table's, in groups: a group that an item meets less often than `min_support` holds no partner for it, which
leaves few items whose pairs in there are counted one by one, as a product of sparse matrices with the commoner items.
Where there are few items at all, each two are counted by the graphs' bits of both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.hypergraph.bits import N_BITS, RowAdder, Words, n_shared_by_two, packed
from tracer.aggregate.hypergraph.ranked import Places, Ranks
from tracer.aggregate.incidence import Incidence, Ints
from tracer.aggregate.tasks import TaskMap, in_process

FEW = 256
"""Up to so many items (the components of a model) every pair is counted by the bits of both."""
ROWS_AT_ONCE = 16_384
"""Rows of a table that are added up together: they and what adding takes fit a core's cache."""
ROWS_PER_TASK = 2_000_000
PRODUCTS_AT_ONCE = 4_000_000
GRAPHS_AT_ONCE = 4096
WIDENING = 4
"""Items are multiplied with those up to a rank in steps of this factor: the commoner an item, the fewer before it."""

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
    """What adding reads: `common` has a bit for each of the `N_BITS` commonest items, `groups` for groups of others.

    Both end with an empty row. `in_group` [n_ranks] counts for each of the others the graphs that hold another of its
    group too. These two are None where there are no others or they are not asked for.
    """

    by_rank: sparse.csr_array
    common: Words
    groups: Words | None = None
    in_group: Ints | None = None

    @classmethod
    def of(cls, incidence: Incidence, ranks: Ranks, *, with_groups: bool) -> "_Tables":
        # before the tables: making it takes twice its own memory
        by_rank = ranks.by_rank(incidence)
        shape = (incidence.n_graphs + 1, N_BITS // 64)
        common, groups = np.zeros(shape, np.uint64), np.zeros(shape if with_groups else (0, 0), np.uint64)
        in_group = np.zeros(len(ranks.item), np.int64)
        with_groups &= len(ranks.item) > N_BITS
        for start, held, bounds in ranks.held(incidence, GRAPHS_AT_ONCE):
            graphs = slice(start, start + len(bounds) - 1)
            common[graphs] = packed(bounds, np.where(held < N_BITS, held, -1))
            if with_groups:
                # next to each other in rank means unlike in group: every group gets as many graphs
                group = np.where(held < N_BITS, -1, held % N_BITS)
                groups[graphs] = packed(bounds, group)
                _count_meetings(in_group, held, bounds, group)
        if not with_groups:
            return cls(by_rank=by_rank, common=common)
        return cls(by_rank=by_rank, common=common, groups=groups, in_group=in_group)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Factors:
    """What multiplying reads: `before` [n_graphs, n] holds the `n` ranks from `N_BITS` on."""

    by_rank: sparse.csr_array
    before: sparse.csr_array


def count_pairs(incidence: Incidence, min_support: int, run: TaskMap = in_process) -> Pairs:
    """Count the graphs that each two items share and list the pairs that share at least `min_support`, which is > 0."""
    ranks = Ranks.of(incidence, min_support)
    found = _few(incidence, ranks, min_support) if len(ranks.item) <= FEW else _many(incidence, ranks, min_support, run)
    rare, common, support = (np.concatenate(columns) for columns in zip(*found, strict=True))
    del found
    rare, common = ranks.item[rare], ranks.item[common]
    key = np.minimum(rare, common) * len(ranks.rank_of) + np.maximum(rare, common)
    del rare, common
    order = np.argsort(key)
    first, second = np.divmod(key[order], len(ranks.rank_of))
    return Pairs(first=first, second=second, support=support[order].astype(np.int64))


def _few(incidence: Incidence, ranks: Ranks, min_support: int) -> list[_Found]:
    """All pairs of ranks, each counted by the bits of both."""
    counts = n_shared_by_two(ranks.bits(incidence, len(ranks.item)))
    rare, common = np.nonzero(counts >= min_support)
    return [(rare, common, counts[rare, common])]


def _many(incidence: Incidence, ranks: Ranks, min_support: int, run: TaskMap) -> list[_Found]:
    tables = _Tables.of(incidence, ranks, with_groups=True)
    bounds = _cuts(ranks.support).tolist()
    blocks = [(start, stop, min_support) for start, stop in zip(bounds, bounds[1:], strict=False)]
    found: list[_Found] = []
    unsettled = [np.zeros(0, np.int64)]
    for pairs, left in run(_added_partners, tables, blocks):
        found.append(pairs)
        unsettled.append(left)
    by_rank = tables.by_rank
    del tables
    for factors, some in _factors(by_rank, np.concatenate(unsettled)):
        parts = [(part, min_support) for part in _parts(factors, some)]
        found += run(_multiplied_partners, factors, parts)
    return found


def count_given_pairs(incidence: Incidence, first: Ints, second: Ints, run: TaskMap = in_process) -> Ints:
    """The graphs that hold both items of each given pair, [n_pairs]; an item with itself has its own support."""
    ranks = Ranks.of(incidence, 1, among=np.concatenate([first, second]))
    one, other = ranks.rank_of[first].astype(np.int64), ranks.rank_of[second].astype(np.int64)
    support = np.zeros(len(first), np.int64)
    places = np.flatnonzero((one >= 0) & (other >= 0))
    rare, common = np.maximum(one[places], other[places]), np.minimum(one[places], other[places])
    order = np.argsort(rare, kind="stable")
    places, rare, common = places[order], rare[order], common[order]
    tables = _Tables.of(incidence, ranks, with_groups=False)
    is_coded = common < N_BITS
    bounds = np.searchsorted(rare[is_coded], _cuts(ranks.support))
    blocks = [
        (rare[is_coded][start:stop], common[is_coded][start:stop])
        for start, stop in zip(bounds, bounds[1:], strict=False)
        if start < stop
    ]
    counts = run(_added_given, tables, blocks)
    support[places[is_coded]] = np.concatenate([*counts, np.zeros(0, np.int64)])
    places, rare, common = places[~is_coded], rare[~is_coded], common[~is_coded]
    for factors, some in _factors(tables.by_rank, np.unique(rare)):
        parts = []
        for part in _parts(factors, some):
            start, stop = np.searchsorted(rare, [part[0], part[-1] + 1])
            parts.append((part, rare[start:stop], common[start:stop]))
        start, stop = np.searchsorted(rare, [some[0], some[-1] + 1])
        support[places[start:stop]] = np.concatenate(list(run(_multiplied_given, factors, parts)))
    return support


def _cuts(support: Ints) -> Ints:
    """Where ranks are cut into blocks of about `ROWS_PER_TASK` rows to add."""
    rows = np.concatenate([[0], np.cumsum(support)])
    return np.unique(np.searchsorted(rows, np.append(np.arange(0, rows[-1], ROWS_PER_TASK), rows[-1])))


def _count_meetings(in_group: Ints, held: Places, bounds: Ints, group: Places) -> None:
    """Add for each rank the graphs that hold another rank of its group too; groups below 0 are none."""
    place = (np.repeat(np.arange(len(bounds) - 1) * N_BITS, np.diff(bounds)) + group)[group >= 0]
    held = held[group >= 0]
    in_group += np.bincount(held[np.bincount(place)[place] > 1], minlength=len(in_group))


def _added_partners(tables: _Tables, block: tuple[int, int, int]) -> tuple[_Found, Ints]:
    """Partners among the common ranks of the ranks `start` to `stop` - 1, and which of these may have others."""
    start, stop, min_support = block
    ranks = np.arange(start, stop)
    found = []
    for some, counts in _added(tables.by_rank, tables.common, ranks):
        row, partner = np.nonzero(counts >= min_support)
        is_commoner = partner < some[row]
        row, partner = row[is_commoner], partner[is_commoner]
        found.append((some[row], partner, counts[row, partner]))
    unsettled = [ranks[:0]]
    if tables.groups is not None and tables.in_group is not None:
        for some, counts in _added(tables.by_rank, tables.groups, ranks[ranks > N_BITS]):
            counts[np.arange(len(some)), some % N_BITS] = tables.in_group[some]
            unsettled.append(some[(counts >= min_support).any(axis=1)])
    rare, common, support = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return (rare, common, support), np.concatenate(unsettled)


def _added_given(tables: _Tables, block: tuple[Ints, Ints]) -> Ints:
    """Shared graphs of each pair of a rank and a common one; the first sorted."""
    rare, common = block
    support = np.zeros(len(rare), np.int64)
    for some, counts in _added(tables.by_rank, tables.common, np.unique(rare)):
        pairs = slice(*np.searchsorted(rare, [some[0], some[-1] + 1]))
        support[pairs] = counts[np.searchsorted(some, rare[pairs]), common[pairs]]
    return support


def _multiplied_partners(factors: _Factors, part: tuple[Ints, int]) -> _Found:
    """Partners, among the ranks that are not common, of some ranks."""
    ranks, min_support = part
    product = _product(factors, ranks).tocoo()
    row, partner = product.coords
    partner = partner.astype(np.int64) + N_BITS
    is_listed = (partner < ranks[row]) & (product.data >= min_support)
    return ranks[row[is_listed]], partner[is_listed], product.data[is_listed]


def _multiplied_given(factors: _Factors, part: tuple[Ints, Ints, Ints]) -> Ints:
    """Shared graphs of each pair of one of some ranks and one that is not common."""
    ranks, rare, common = part
    product = _product(factors, ranks)
    return np.asarray(product[np.searchsorted(ranks, rare), common - N_BITS], dtype=np.int64).ravel()


def _product(factors: _Factors, ranks: Ints) -> sparse.csr_array:
    return factors.by_rank[ranks].astype(np.int32) @ factors.before


def _factors(by_rank: sparse.csr_array, ranks: Ints) -> Iterator[tuple[_Factors, Ints]]:
    """Some of the ranks, all from `N_BITS` on, at a time, and what they are multiplied with."""
    low = N_BITS
    while len(ranks) and low <= ranks.max():
        some = ranks[(ranks >= low) & (ranks < low * WIDENING)]
        if len(some):
            yield _Factors(by_rank=by_rank, before=by_rank[N_BITS : some.max() + 1].tocsc().T), some
        low *= WIDENING


def _parts(factors: _Factors, ranks: Ints) -> Iterable[Ints]:
    """Ranks cut so that a product has about `PRODUCTS_AT_ONCE` terms."""
    sizes = factors.by_rank.indptr[ranks + 1] - factors.by_rank.indptr[ranks]
    n_held = max(factors.before.nnz / factors.before.shape[0], 1.0)
    part = (np.cumsum(sizes) * n_held // PRODUCTS_AT_ONCE).astype(np.int64)
    return np.split(ranks, np.flatnonzero(np.diff(part)) + 1)


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
