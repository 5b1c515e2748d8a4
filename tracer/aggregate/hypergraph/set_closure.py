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
ROWS_AT_ONCE = 4096
SETS_AT_ONCE = 1024
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
    graphs = ranked.graphs_of(rank)
    shared = np.zeros(len(ranked.item), np.int64)
    for start in range(0, len(graphs), ROWS_AT_ONCE):
        rows = ranked.by_graph[graphs[start : start + ROWS_AT_ONCE]]
        shared += np.bincount(rows.indices, minlength=len(shared))
    # an item in all graphs of a set shares as many with its rarest member
    most, n_seen = _most_shared(ranked, graphs, np.flatnonzero(shared >= support.min()), members, min_support)
    is_closed, is_maximal = most < n_seen, most < min_support
    open_idx = np.flatnonzero(is_maximal)
    if len(open_idx) and support.min() > min_support:
        items = np.flatnonzero(shared >= min_support)
        most, _ = _most_shared(ranked, graphs, items, members[open_idx], min_support)
        is_maximal[open_idx] = most < min_support
    return is_closed, is_maximal


def _most_shared(ranked: Ranked, graphs: Places, items: Ints, members: Places, min_support: int) -> tuple[Ints, Ints]:
    """For each set the most of its graphs that another of the items is in, and how many of its graphs were looked at.

    A set is left as soon as the answer is known: some graph lacks each item, and some item is in `min_support` graphs.
    """
    columns = np.searchsorted(items, members)
    counts = np.zeros((len(members), len(items)), np.int64)
    np.put_along_axis(counts, columns, OWN, axis=1)
    most, n_seen = np.full(len(members), OWN), np.zeros(len(members), np.int64)
    open_idx = np.arange(len(members))
    for start in range(0, len(graphs), ROWS_AT_ONCE):
        held = dense_block(ranked.by_graph[graphs[start : start + ROWS_AT_ONCE]], items)
        by_item, weights = np.ascontiguousarray(held.T), held.astype(np.float32)
        for first in range(0, len(open_idx), SETS_AT_ONCE):
            some = open_idx[first : first + SETS_AT_ONCE]
            marks = graphs_of_sets(by_item, columns[some]).astype(np.float32)
            counts[some] += (marks @ weights).astype(np.int64)
            n_seen[some] += marks.sum(axis=1).astype(np.int64)
            most[some] = counts[some].max(axis=1)
        open_idx = open_idx[(most[open_idx] >= n_seen[open_idx]) | (most[open_idx] < min_support)]
        if len(open_idx) == 0:
            break
    return most, n_seen


def graphs_of_sets(by_item: Block, members: Ints) -> Block:
    """Which graphs hold all members of each set, [n_sets, n_graphs]; `by_item` [n_items, n_graphs] is for each item."""
    graphs = by_item[members[:, 0]]
    for place in range(1, members.shape[1]):
        graphs &= by_item[members[:, place]]
    return graphs
