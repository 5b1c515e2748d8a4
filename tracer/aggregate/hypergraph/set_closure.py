"""Which sets are closed, that is, no further item is in all of their graphs, and which are maximal?

Both are asked of one item more, commoner or rarer than the members: a set has a superset in all of its graphs, or in
`min_support` graphs, exactly where it has one with one item more. The sets of one rarest item are judged together, some
graphs at a time: most answers are known after few.
"""

import numpy as np
import numpy.typing as npt

from tracer.aggregate.hypergraph.bits import WORDS_AT_ONCE, in_all, n_set
from tracer.aggregate.hypergraph.ranked import Partners, Places, Ranked
from tracer.aggregate.incidence import Ints

Bools = npt.NDArray[np.bool_]
WORDS_OF_ITEM = 64
"""Words of an item's bits that are looked at before the next ones."""
OWN = -(2**60)
"""Count of a member in its own set, so that it is never the most."""

SetsOfRarest = tuple[int, list[tuple[Places, Ints]], int]
"""Rank of the rarest member; members (ascending ranks) and supports of the sets, by size; `min_support`."""


def judge_sets(ranked: Ranked, block: list[SetsOfRarest]) -> list[list[tuple[Bools, Bools]]]:
    """For each rarest item and size the flags closed and maximal, [n_sets] each."""
    return [[_judged(ranked, rank, *sets, min_support) for sets in by_size] for rank, by_size, min_support in block]


def _judged(ranked: Ranked, rank: int, members: Places, support: Ints, min_support: int) -> tuple[Bools, Bools]:
    if len(members) == 0:
        return np.zeros(0, bool), np.zeros(0, bool)
    n_ranks, least = len(ranked.item), int(support.min())
    # an item in all graphs of a set shares as many with its rarest member
    most, n_seen = _most_shared(ranked.partners(rank, least, n_ranks), members[:, :-1], min_support)
    is_closed, is_maximal = most < n_seen, most < min_support
    open_idx = np.flatnonzero(is_maximal)
    if len(open_idx) and least > min_support:
        partners = ranked.partners(rank, min_support, n_ranks)
        most, _ = _most_shared(partners, members[open_idx, :-1], min_support)
        is_maximal[open_idx] = most < min_support
    return is_closed, is_maximal


def _most_shared(partners: Partners, members: Places, min_support: int) -> tuple[Ints, Ints]:
    """For each set of partners the most of its graphs that another is in, and how many of its graphs were looked at.

    A set is left as soon as the answer is known: some graph lacks each item, and some item is in `min_support` graphs.
    """
    rows = np.searchsorted(partners.ranks, members)
    counts = np.zeros((len(members), len(partners.ranks)), np.int64)
    np.put_along_axis(counts, rows, OWN, axis=1)
    most, n_seen = np.full(len(members), OWN), np.zeros(len(members), np.int64)
    open_idx = np.arange(len(members))
    for start in range(0, partners.words.shape[1], WORDS_OF_ITEM):
        words = np.ascontiguousarray(partners.words[:, start : start + WORDS_OF_ITEM])
        step = max(1, WORDS_AT_ONCE // words.size)
        for first in range(0, len(open_idx), step):
            some = open_idx[first : first + step]
            together = in_all(words, rows[some])
            counts[some] += n_set(together[:, None] & words)
            n_seen[some] += n_set(together)
            most[some] = counts[some].max(axis=1)
        open_idx = open_idx[(most[open_idx] >= n_seen[open_idx]) | (most[open_idx] < min_support)]
        if len(open_idx) == 0:
            break
    return most, n_seen
