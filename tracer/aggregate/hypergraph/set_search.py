"""Finds the sets of three or more items that enough graphs hold, the rarest item of a set first.

A set is met once: from its rarest item `a`, on a row of bits of each commoner item that shares enough graphs with `a`
(few: for a Zipf law the i-th item has at most about as many as have an expected support above the threshold), one bit
for each graph that they share. The bits that are set in two rows are the graphs of a triple with `a`; the rows within
the graphs that also hold `b` are those of the prefix (a, b), and so on (Zaki, "Scalable algorithms for association
mining", 2000).
"""

from dataclasses import dataclass, field

import numpy as np

from tracer.aggregate.hypergraph.bits import n_shared_by_two
from tracer.aggregate.hypergraph.ranked import Partners, Places, Ranked
from tracer.aggregate.incidence import Ints

SLACK = 1.25
"""So many times the most sets are held before those of least support are left out."""


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
    """Find the sets of a block. Takes a bit for each graph of an item, or of the run, and each of its partners."""
    search = _Search(block=block, shortlist=Shortlist(block.thresholds, block.max_sets))
    for rank in range(block.start, block.stop):
        least = min(search.shortlist.thresholds.values())
        if ranked.support[rank] < least:
            break
        partners = ranked.partners(rank, least, stop=rank)
        if len(partners.ranks) > 1:
            search.extend((rank,), partners)
    candidates = {}
    for size, parts in search.candidates.items():
        support = np.concatenate([np.zeros(0, np.int64), *(support for support, _ in parts)])
        n_sets = np.concatenate([np.zeros(0, np.int64), *(n_sets for _, n_sets in parts)])
        distinct, place = np.unique(support, return_inverse=True)
        candidates[size] = (distinct, np.bincount(place, weights=n_sets, minlength=len(distinct)).astype(np.int64))
    sets = {size: search.shortlist.sets(size) for size in block.thresholds}
    return Found(sets=sets, thresholds=search.shortlist.thresholds, candidates=candidates)


@dataclass(slots=True, kw_only=True)
class _Search:
    block: SearchBlock
    shortlist: Shortlist
    candidates: dict[int, list[tuple[Ints, Ints]]] = field(default_factory=dict)

    def extend(self, prefix: tuple[int, ...], partners: Partners) -> None:
        """Find the sets of `prefix` (ranks, the rarest first) and two or more partners, all commoner, in its graphs."""
        size = len(prefix) + 2
        together = n_shared_by_two(partners.words)
        ordered = -np.sort(-partners.shared)
        self.candidates.setdefault(size, []).append((ordered, np.arange(len(ordered))))
        rarer, commoner = np.nonzero(together >= max(self.shortlist.thresholds[size], 1))
        whole_prefix = np.broadcast_to(np.array(prefix[::-1]), (len(rarer), len(prefix)))
        members = np.column_stack([partners.ranks[commoner], partners.ranks[rarer], whole_prefix]).astype(np.int32)
        self.shortlist.add(members, together[rarer, commoner])
        longer = [length for length in self.shortlist.thresholds if length > size]
        for place in range(2, len(partners.ranks) if longer else 0):
            least = min(self.shortlist.thresholds[length] for length in longer)
            among = np.flatnonzero(together[place, :place] >= least)
            if len(among) > 1:
                words = partners.words[among]
                words &= partners.words[place]
                within = Partners(ranks=partners.ranks[among], shared=together[place, among], words=words)
                self.extend((*prefix, int(partners.ranks[place])), within)
