"""Finds the sets of three or more items that enough graphs hold, the rarest item of a set first.

A set is met once: from its rarest item `a`, on a dense block of the graphs of `a` and the commoner items that share
enough of them with it (few: for a Zipf law the i-th item has at most about as many as have an expected support above
the threshold). The block's product with itself gives the supports of all triples with `a` at once; its rows that also
hold `b` are the block of the prefix (a, b), and so on. Products are of float32 over fewer than 2^24 rows: exact.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.hypergraph.ranked import Places, Ranked
from tracer.aggregate.incidence import Ints

ELEMENTS_AT_ONCE = 2**24
SLACK = 1.25
"""So many times the most sets are held before those of least support are left out."""

Block = npt.NDArray[np.int8]


class Shortlist:
    """Sets of each size above a threshold, which rises as far as it must for at most `max_sets` sets of a size.

    What is left does not depend on the order in which sets are added.
    """

    def __init__(self, thresholds: dict[int, int], max_sets: int) -> None:
        """Start with the least support of each size."""
        self.thresholds = dict(thresholds)
        self.max_sets = max_sets
        self._members: dict[int, list[Places]] = {size: [] for size in thresholds}
        self._support: dict[int, list[Ints]] = {size: [] for size in thresholds}
        self._n_sets = dict.fromkeys(thresholds, 0)

    def add(self, members: Places, support: Ints) -> None:
        """Add sets of one size: `members` [n_sets, size], `support` [n_sets]."""
        size = members.shape[1]
        is_kept = support >= self.thresholds[size]
        self._members[size].append(members[is_kept])
        self._support[size].append(support[is_kept])
        self._n_sets[size] += int(is_kept.sum())
        if self._n_sets[size] > SLACK * self.max_sets:
            self.sets(size)

    def raise_to(self, thresholds: dict[int, int]) -> None:
        """Take over thresholds to which a part of the sets has already led."""
        self.thresholds = {size: max(least, thresholds[size]) for size, least in self.thresholds.items()}

    def sets(self, size: int) -> tuple[Places, Ints]:
        """Members [n_sets, size] and supports [n_sets] of what is left."""
        members = np.concatenate([np.zeros((0, size), np.int32), *self._members[size]])
        support = np.concatenate([np.zeros(0, np.int64), *self._support[size]])
        if len(support) > self.max_sets:
            # the largest support at which there would be one set too many
            self.thresholds[size] = int(np.sort(support)[-self.max_sets - 1]) + 1
        is_kept = support >= self.thresholds[size]
        self._n_sets[size] = int(is_kept.sum())
        self._members[size], self._support[size] = [members[is_kept]], [support[is_kept]]
        return members[is_kept], support[is_kept]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBlock:
    """Rarest items `start` to `stop` - 1 (ranks) of the sets to find, `thresholds` for their support by size."""

    start: int
    stop: int
    thresholds: dict[int, int]
    max_sets: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Sets that a search has met.

    `sets` are members (ranks, ascending) and supports by size, above what the `thresholds` have become. `candidates`
    are by size the sets that were counted: how many of them (second array) were candidates up to which threshold (first
    array), that is, the smaller support of the two parts with one member less that led to them.
    """

    sets: dict[int, tuple[Places, Ints]]
    thresholds: dict[int, int]
    candidates: dict[int, tuple[Ints, Ints]]


def search_sets(ranked: Ranked, block: SearchBlock) -> Found:
    """Find the sets of a block. Takes a byte for each graph of an item and each of its partners."""
    search = _Search(ranked=ranked, block=block, shortlist=Shortlist(block.thresholds, block.max_sets))
    for rank in range(block.start, block.stop):
        least = min(search.shortlist.thresholds.values())
        if ranked.support[rank] < least:
            break
        rows = ranked.by_graph[ranked.graphs_of(rank)]
        shared = np.bincount(rows.indices, minlength=rank + 1)[:rank]
        partners = np.flatnonzero(shared >= least)
        if len(partners) > 1:
            search.extend(dense_block(rows, partners), (rank,), partners, shared[partners])
    candidates = {}
    for size, parts in search.candidates.items():
        support = np.concatenate([np.zeros(0, np.int64), *(support for support, _ in parts)])
        n_sets = np.concatenate([np.zeros(0, np.int64), *(n_sets for _, n_sets in parts)])
        distinct, place = np.unique(support, return_inverse=True)
        candidates[size] = (distinct, np.bincount(place, weights=n_sets, minlength=len(distinct)).astype(np.int64))
    sets = {size: search.shortlist.sets(size) for size in block.thresholds}
    return Found(sets=sets, thresholds=search.shortlist.thresholds, candidates=candidates)


def dense_block(rows: sparse.csr_array, columns: Ints) -> Block:
    """Some columns of an incidence's rows as zeros and ones, [n_rows, n_columns]."""
    position = np.full(rows.shape[1], len(columns), rows.indices.dtype)
    position[columns] = np.arange(len(columns))
    # everything else falls into one column more
    shape = (rows.shape[0], len(columns) + 1)
    return sparse.csr_array((rows.data, position[rows.indices], rows.indptr), shape=shape).toarray()[:, :-1]


@dataclass(slots=True, kw_only=True)
class _Search:
    ranked: Ranked
    block: SearchBlock
    shortlist: Shortlist
    candidates: dict[int, list[tuple[Ints, Ints]]] = field(default_factory=dict)

    def extend(self, held: Block, prefix: tuple[int, ...], partners: Ints, shared: Ints) -> None:
        """Find the sets of `prefix` and two or more partners.

        Args:
            held: which of the graphs of the prefix hold which partner.
            prefix: ranks, the rarest first.
            partners: ranks, ascending, all below those of the prefix.
            shared: graphs of the prefix and each partner.
        """
        size = len(prefix) + 2
        together = np.tril(_shared_counts(held), -1)
        ordered = -np.sort(-shared)
        self.candidates.setdefault(size, []).append((ordered, np.arange(len(ordered))))
        rarer, commoner = np.nonzero(together >= max(self.shortlist.thresholds[size], 1))
        whole_prefix = np.broadcast_to(np.array(prefix[::-1]), (len(rarer), len(prefix)))
        members = np.column_stack([partners[commoner], partners[rarer], whole_prefix]).astype(np.int32)
        self.shortlist.add(members, together[rarer, commoner])
        longer = [length for length in self.shortlist.thresholds if length > size]
        for place in range(2, len(partners) if longer else 0):
            least = min(self.shortlist.thresholds[length] for length in longer)
            columns = np.flatnonzero(together[place, :place] >= least)
            if len(columns) > 1:
                rows = np.flatnonzero(held[:, place])
                self.extend(
                    held[np.ix_(rows, columns)],
                    (*prefix, int(partners[place])),
                    partners[columns],
                    together[place, columns],
                )


def _shared_counts(held: Block) -> Ints:
    """Rows that hold both of two columns, [n_columns, n_columns]."""
    counts = np.zeros((held.shape[1], held.shape[1]), np.int64)
    n_rows = max(1, ELEMENTS_AT_ONCE // max(held.shape[1], 1))
    for start in range(0, len(held), n_rows):
        rows = held[start : start + n_rows].astype(np.float32)
        counts += (rows.T @ rows).astype(np.int64)
    return counts
