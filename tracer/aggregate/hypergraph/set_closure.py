"""Which sets are closed, that is, no further item is in all of their graphs, and which are maximal?

Both are asked of one item more, commoner or rarer than the members: a set has a superset in all of its graphs, or in
`min_support` graphs, exactly where it has one with one item more. The sets of one rarest item are judged together: a
product of the graphs of the sets and those of the items counts them all.
"""

import numpy as np
import numpy.typing as npt

from tracer.aggregate.hypergraph.ranked import Places, Ranked
from tracer.aggregate.hypergraph.set_search import Block, dense_block
from tracer.aggregate.incidence import Ints

Bools = npt.NDArray[np.bool_]
ROWS_AT_ONCE = 16_384
SETS_AT_ONCE = 1024

SetsOfRarest = tuple[int, list[tuple[Places, Ints]], int]
"""Rank of the rarest member; members (ascending ranks) and supports of the sets, by size; `min_support`."""


def judge_sets(ranked: Ranked, block: list[SetsOfRarest]) -> list[list[tuple[Bools, Bools]]]:
    """For each rarest item and size the flags closed and maximal, [n_sets] each."""
    return [[_judged(ranked, rank, *sets, min_support) for sets in by_size] for rank, by_size, min_support in block]


def _judged(ranked: Ranked, rank: int, members: Places, support: Ints, min_support: int) -> tuple[Bools, Bools]:
    if len(members) == 0:
        return np.zeros(0, bool), np.zeros(0, bool)
    graphs = ranked.graphs_of(rank)
    shared = np.zeros(len(ranked.item), np.int64)
    for start in range(0, len(graphs), ROWS_AT_ONCE):
        rows = ranked.by_graph[graphs[start : start + ROWS_AT_ONCE]]
        shared += np.bincount(rows.indices, minlength=len(shared))
    # an item in all graphs of a set shares as many with its rarest member
    most = _most_shared(ranked, graphs, np.flatnonzero(shared >= support.min()), members)
    is_closed = most < support
    undecided = np.flatnonzero(most < min_support)
    is_maximal = np.zeros(len(members), bool)
    if len(undecided):
        items = np.flatnonzero(shared >= min_support)
        is_maximal[undecided] = _most_shared(ranked, graphs, items, members[undecided]) < min_support
    return is_closed, is_maximal


def _most_shared(ranked: Ranked, graphs: Places, items: Ints, members: Places) -> Ints:
    """For each set the most of its graphs that another of the items is in; 0 where there is no other."""
    columns = np.searchsorted(items, members)
    counts = np.zeros((len(members), len(items)), np.int64)
    for start in range(0, len(graphs), ROWS_AT_ONCE):
        held = dense_block(ranked.by_graph[graphs[start : start + ROWS_AT_ONCE]], items)
        by_item, weights = np.ascontiguousarray(held.T), held.astype(np.float32)
        for first in range(0, len(members), SETS_AT_ONCE):
            some = slice(first, first + SETS_AT_ONCE)
            counts[some] += (graphs_of_sets(by_item, columns[some]).astype(np.float32) @ weights).astype(np.int64)
    np.put_along_axis(counts, columns, 0, axis=1)
    return counts.max(axis=1)


def graphs_of_sets(by_item: Block, members: Ints) -> Block:
    """Which graphs hold all members of each set, [n_sets, n_graphs]; `by_item` [n_items, n_graphs] is for each item."""
    graphs = by_item[members[:, 0]]
    for place in range(1, members.shape[1]):
        graphs &= by_item[members[:, place]]
    return graphs
