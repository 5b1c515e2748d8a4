"""Question: which sets of three or more items recur in graphs?

Exact: every set of 3 to `max_size` items that at least `min_support` graphs hold is found, unless a size has more than
`max_sets` of them. Then the least support of that size, and of that alone, is raised to the lowest value at which they
fit; sets with equal supports are all in or all out. All sets count towards `max_sets`; of those at or above
the size's least support the closed ones are listed:

* closed: no further item is in all of its graphs, whatever the size of that larger set. Of features that always come
  together only their whole is closed; where that has more than `max_size` members, none of its subsets is listed.
* maximal: no set with more members, of any size and listed or not, is in `min_support` graphs or more, the number
  asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tracer.aggregate.hypergraph.ranked import Places, Ranked
from tracer.aggregate.hypergraph.set_closure import Bools, SetsOfRarest, judge_sets
from tracer.aggregate.hypergraph.set_search import SearchBlock, Shortlist, search_sets
from tracer.aggregate.incidence import Incidence, Ints
from tracer.aggregate.tasks import TaskMap, in_process

MIN_SIZE = 3
RANKS_AT_FIRST = 256
WIDENING = 16
GRAPHS_PER_TASK = 500_000
MARKS_PER_TASK = 2_000_000_000
"""Graphs of a rarest member times its sets, summed over the members of a task that judges sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetsOfSize:
    """The closed sets of one size, by falling support, and what was listed and tested.

    `members` [n_sets, size] are items, ascending; `support`, `is_closed` (always true) and `is_maximal` are [n_sets].
    `n_found` counts all sets of the size, closed or not, in `min_support` graphs or more; None where counting stopped
    before. `n_tested` counts the sets whose support was looked at, found or not, at `min_support_listed`: those of
    which the two parts that leave out one of the two commonest members have that support.
    """

    size: int
    min_support: int
    min_support_listed: int
    n_found: int | None
    n_tested: int
    members: Ints
    support: Ints
    is_closed: Bools
    is_maximal: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringSets:
    """Recurring sets of items, one entry for each size from 3 to the largest asked for."""

    by_size: tuple[SetsOfSize, ...]


def recurring_sets(
    incidence: Incidence, *, min_support: int, max_size: int, max_sets: int, run: TaskMap = in_process
) -> RecurringSets:
    """Find the closed sets of 3 to `max_size` items that recur.

    Args:
        incidence: which graph holds which item.
        min_support: fewest graphs that hold a set, at least 1.
        max_size: most members of a set; below 3 nothing is sought.
        max_sets: most sets of a size, before those that are not closed are left out.
        run: spreads the work.
    """
    if max_size < MIN_SIZE:
        return RecurringSets(by_size=())
    shortlist = Shortlist(dict.fromkeys(range(MIN_SIZE, max_size + 1), min_support), max_sets)
    ranked, candidates = _search(incidence, shortlist, min_support, run)
    sets = {size: shortlist.sets(size) for size in shortlist.thresholds}
    flags = _flags(ranked, sets, min_support, run)
    item = ranked.item
    del ranked  # the next one is larger, and both would be held
    _find_rarer_members(incidence, sets, flags, len(item), min_support, run)
    by_size = []
    for size, (members, support) in sets.items():
        least = shortlist.thresholds[size]
        n_tested = sum(int(n_sets[at >= least].sum()) for at, n_sets in candidates[size])
        is_closed, is_maximal = flags[size]
        items = np.sort(item[members[is_closed]], axis=1)
        order = np.lexsort((*items.T[::-1], -support[is_closed]))
        by_size.append(
            SetsOfSize(
                size=size,
                min_support=min_support,
                min_support_listed=least,
                n_found=len(members) if least == min_support else None,
                n_tested=n_tested,
                members=items[order],
                support=support[is_closed][order],
                is_closed=np.ones(len(order), bool),
                is_maximal=is_maximal[is_closed][order],
            )
        )
    return RecurringSets(by_size=tuple(by_size))


def _search(
    incidence: Incidence, shortlist: Shortlist, min_support: int, run: TaskMap
) -> tuple[Ranked, dict[int, list[tuple[Ints, Ints]]]]:
    """Put all sets on the shortlist; the ranked items among which they are, and by size the candidates that there were.

    The commonest items first, alone: their sets raise thresholds the most, and often nothing rarer is in a listed set.
    """
    candidates: dict[int, list[tuple[Ints, Ints]]] = {size: [] for size in shortlist.thresholds}
    support = -np.sort(-incidence.support)
    n_searched, n_ranks, ranked = 0, RANKS_AT_FIRST, None
    while True:
        del ranked  # the next one is larger, and both would be held
        ranked = Ranked.of(incidence, int(support[n_ranks - 1 : n_ranks].max(initial=min_support)))
        for part in run(search_sets, ranked, _search_blocks(ranked, n_searched, shortlist)):
            shortlist.raise_to(part.thresholds)
            for members, of_sets in part.sets.values():
                shortlist.add(members, of_sets)
            for size, counted in part.candidates.items():
                candidates[size].append(counted)
        n_searched, n_ranks = len(ranked.item), n_ranks * WIDENING
        least = min(shortlist.thresholds.values())
        if n_searched == len(support) or support[n_searched] < least:
            return ranked, candidates


def _search_blocks(ranked: Ranked, start: int, shortlist: Shortlist) -> Iterator[SearchBlock]:
    """Ranks from `start` on, the commonest first; a block takes the thresholds that hold when it starts."""
    graphs = np.cumsum(ranked.support[start:])
    n_graphs = int(graphs[-1]) if len(graphs) else 0
    cuts = start + np.searchsorted(graphs, np.arange(0, n_graphs, GRAPHS_PER_TASK), side="right")
    bounds = np.unique(np.append(cuts, [start, len(ranked.item)]))
    for first, stop in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
        yield SearchBlock(start=first, stop=stop, thresholds=dict(shortlist.thresholds), max_sets=shortlist.max_sets)


def _flags(
    ranked: Ranked, sets: dict[int, tuple[Places, Ints]], min_support: int, run: TaskMap
) -> dict[int, tuple[Bools, Bools]]:
    """By size, whether each set is closed and whether it is maximal."""
    order = {size: np.argsort(members[:, -1], kind="stable") for size, (members, _) in sets.items()}
    rarest = np.unique(np.concatenate([np.zeros(0, np.int32), *(members[:, -1] for members, _ in sets.values())]))
    of_rarest: list[SetsOfRarest] = []
    for rank in rarest.tolist():
        by_size = []
        for size, (members, support) in sets.items():
            start, stop = np.searchsorted(members[order[size], -1], [rank, rank + 1])
            places = order[size][start:stop]
            by_size.append((members[places], support[places]))
        of_rarest.append((rank, by_size, min_support))
    judged = [flags for block in run(judge_sets, ranked, _judging_blocks(ranked, of_rarest)) for flags in block]
    flags = {size: (np.zeros(len(support), bool), np.zeros(len(support), bool)) for size, (_, support) in sets.items()}
    for place, (size, (is_closed, is_maximal)) in enumerate(flags.items()):
        is_closed[order[size]] = np.concatenate([np.zeros(0, bool), *(of[place][0] for of in judged)])
        is_maximal[order[size]] = np.concatenate([np.zeros(0, bool), *(of[place][1] for of in judged)])
    return flags


def _find_rarer_members(
    incidence: Incidence,
    sets: dict[int, tuple[Places, Ints]],
    flags: dict[int, tuple[Bools, Bools]],
    n_ranked: int,
    min_support: int,
    run: TaskMap,
) -> None:
    """Judge again what is maximal among the `n_ranked` ranked items, where a larger set may have a rarer one."""
    open_sets = {size: (members[flags[size][1]], support[flags[size][1]]) for size, (members, support) in sets.items()}
    n_open = sum(len(support) for _, support in open_sets.values())
    if n_open == 0 or int((incidence.support >= min_support).sum()) == n_ranked:
        return
    for size, (_, is_maximal) in _flags(Ranked.of(incidence, min_support), open_sets, min_support, run).items():
        flags[size][1][flags[size][1]] = is_maximal


def _judging_blocks(ranked: Ranked, of_rarest: list[SetsOfRarest]) -> Iterator[list[SetsOfRarest]]:
    block: list[SetsOfRarest] = []
    n_marks = 0
    for sets in of_rarest:
        block.append(sets)
        n_marks += int(ranked.support[sets[0]]) * sum(len(support) for _, support in sets[1])
        if n_marks >= MARKS_PER_TASK:
            yield block
            block, n_marks = [], 0
    if block:
        yield block
