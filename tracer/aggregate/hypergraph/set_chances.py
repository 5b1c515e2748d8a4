"""Question: which recurring sets are held by more graphs than the length-aware null, and than their own parts, explain?

`expected` takes all members for independent. What the parts explain is the most that any split of the set in two does:
the graphs that hold one part, each times the chance that a graph of its length (and stratum) holds the other part,
given how many graphs do. A pair that belongs together beside an independent third item is explained so, and so are two
such pairs; a triple that comes together more often than its pairs make it is not. The part whose chance is taken is
the smaller one, of equal parts either.

q-values are over all sets of the size that were tested, which are more than those listed (`n_tested` of
`SetsOfSize`): sets that were counted and are in too few graphs, or that are not closed, enter with p = 1. Over the
sets found alone they would be too small, since sets are found for having large supports.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tracer.aggregate.hypergraph.chances import LengthAwareNull, fit_null, slopes, support_in_strata
from tracer.aggregate.hypergraph.part_counts import CellBits, part_counts
from tracer.aggregate.hypergraph.ranked import Ranks
from tracer.aggregate.hypergraph.sets import SetsOfSize
from tracer.aggregate.hypergraph.significance import Measures, benjamini_hochberg, poisson_above, quotient
from tracer.aggregate.incidence import Floats, Incidence, Ints
from tracer.aggregate.tasks import TaskMap, in_process

N_LENGTH_BINS = 64
"""Lengths are told apart more coarsely than for pairs: graphs of parts are counted in every cell."""
BIT_BYTES = 2**29
"""A bit for each graph and each of the items that are looked at together."""
COUNTS_PER_TASK = 640_000
"""Sets of a task times cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nulls:
    """Nulls of the strata (of all graphs where there are none), their cells one after another.

    `cell` [n_graphs] places graphs in cells; graphs in no cell hold nothing. `support` [n_nulls, n_ranks] is by null.
    """

    nulls: tuple[LengthAwareNull, ...]
    support: Ints
    cell: Ints
    n_graphs: Floats
    reach: Floats
    room: Floats

    @classmethod
    def fit(cls, incidence: Incidence, item: Ints, n_length_bins: int, *, stratified: bool) -> "_Nulls":
        length = incidence.length
        numbers, supports = np.zeros(incidence.n_graphs, np.int64), incidence.support[None]
        if stratified and incidence.stratum is not None:
            numbers, supports = np.unique(incidence.stratum, return_inverse=True)[1], support_in_strata(incidence)
        cell = np.zeros(incidence.n_graphs, np.int64)
        nulls, kept, n_cells = [], [], 0
        for number, support in enumerate(supports):
            if support.sum() == 0:
                continue
            graphs = np.flatnonzero(numbers == number)
            nulls.append(fit_null(support, length[graphs], n_length_bins))
            kept.append(support[item])
            cell[graphs] = n_cells + nulls[-1].cell
            n_cells += len(nulls[-1].rate)
        return cls(
            nulls=tuple(nulls),
            support=np.array(kept, np.int64),
            cell=cell,
            n_graphs=np.concatenate([null.n_graphs for null in nulls]),
            reach=np.concatenate([null.reach for null in nulls]),
            room=np.concatenate([null.room for null in nulls]),
        )

    def chances(self, support: Ints) -> tuple[Floats, Floats]:
        """Chance in each cell of what has these supports by null: [n_nulls, n_things] to [n_things, n_cells].

        Beside it how fast the chance rises with the logarithm of a graph's room, as a share of the chance.
        """
        chances, rises = [], []
        for null, within in zip(self.nulls, support, strict=True):
            distinct, place = np.unique(within, return_inverse=True)
            chance = null.chances(distinct)
            slope = slopes(chance, is_closed=null.is_closed)
            rises.append(np.divide(slope, chance, out=np.ones(chance.shape), where=chance > 0)[place])
            chances.append(chance[place])
        return np.hstack(chances), np.hstack(rises)

    def by_null(self, counts: Ints) -> Ints:
        """Counts by cell as counts by null: [n_things, n_cells] to [n_nulls, n_things]."""
        start = np.cumsum([0, *(len(null.rate) for null in self.nulls[:-1])])
        return np.add.reduceat(counts, start, axis=1, dtype=np.int64).T


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    bits: CellBits
    whole: _Nulls
    parts: _Nulls


def set_measures(incidence: Incidence, sets: SetsOfSize, run: TaskMap = in_process) -> Measures:
    """What `hyperedges` says of sets of one size beside their support, by name of the column, [n_sets] each.

    `expected` and `lift` take all members for independent in all graphs; `expected_given_parts`, `lift_given_parts`,
    `p_above` and `q_above` are within strata where the incidence has them. Lifts and chances are masked where nothing
    is expected.
    """
    expected = given_parts = np.zeros(0)
    if len(sets.members):
        ranks = Ranks.of(incidence, 1, among=np.unique(sets.members))
        whole, parts = (
            _Nulls.fit(incidence, ranks.item, N_LENGTH_BINS, stratified=stratified) for stratified in (False, True)
        )
        members = np.sort(ranks.rank_of[sets.members].astype(np.int64), axis=1)
        # neighbours share parts, which a block counts once
        order = np.lexsort(members.T)
        expected, given_parts = np.zeros((2, len(order)))
        n_items = BIT_BYTES * 8 // (incidence.n_graphs + 64 * len(parts.room))
        for some in _groups(members, order, max(members.shape[1], n_items)):
            bits = CellBits.of(incidence, ranks, np.unique(members[some]), parts.cell, len(parts.room))
            shared = _Shared(bits=bits, whole=whole, parts=parts)
            blocks = _blocks(members[some], max(1, COUNTS_PER_TASK // len(parts.room)))
            expected[some], given_parts[some] = np.hstack(list(run(_expected, shared, blocks)))
    nothing = given_parts <= 0
    p = np.where(nothing, 1.0, poisson_above(sets.support, given_parts))
    q = np.ones(len(p))
    q[~nothing] = benjamini_hochberg(p[~nothing], max(sets.n_tested, len(p)))
    return {
        "expected": np.ma.array(expected),
        "lift": quotient(sets.support, expected),
        "expected_given_parts": np.ma.array(given_parts),
        "lift_given_parts": quotient(sets.support, given_parts),
        "p_above": np.ma.array(p, mask=nothing),
        "q_above": np.ma.array(q, mask=nothing),
    }


def _groups(members: Ints, order: Ints, n_items: int) -> Iterator[Ints]:
    """The sets in this order, as many at a time as have at most so many members together."""
    group: list[int] = []
    together: set[int] = set()
    for place in order.tolist():
        further = set(members[place].tolist()) - together
        if len(together) + len(further) > n_items:
            yield np.array(group)
            group, together, further = [], set(), set(members[place].tolist())
        group.append(place)
        together |= further
    yield np.array(group)


def _blocks(members: Ints, n_sets: int) -> Iterator[Ints]:
    return (members[start : start + n_sets] for start in range(0, len(members), n_sets))


def _expected(shared: _Shared, members: Ints) -> Floats:
    """Graphs expected with all members, and given parts, [2, n_sets]; `members` [n_sets, size] are ascending ranks."""
    return np.array([_independent(shared.whole, members), _given_parts(shared, members)])


def _independent(nulls: _Nulls, members: Ints) -> Floats:
    ranks, place = np.unique(members, return_inverse=True)
    chance, rise = (of_rank[place.reshape(members.shape)] for of_rank in nulls.chances(nulls.support[:, ranks]))
    expected = nulls.n_graphs * chance.prod(axis=1)
    for one, other in combinations(range(members.shape[1]), 2):
        expected *= 1 - rise[:, one] * rise[:, other] / nulls.room
    return expected.sum(axis=1)


def _given_parts(shared: _Shared, members: Ints) -> Floats:
    nulls, size = shared.parts, members.shape[1]
    ranks, place = np.unique(members, return_inverse=True)
    alone, rise_alone = nulls.chances(nulls.support[:, ranks])
    place = place.reshape(members.shape)
    counts = {
        n: part_counts(shared.bits, members, n) for n in range(2, size)
    }  # fmt: skip
    chances = {n: nulls.chances(nulls.by_null(counts[n].counts)) for n in range(2, size // 2 + 1)}
    most = np.zeros(len(members))
    for n_taken in range(1, size // 2 + 1):
        for taken in combinations(range(size), n_taken):
            left = tuple(position for position in range(size) if position not in taken)
            of_taken = place[:, taken[0]] if n_taken == 1 else counts[n_taken].place[taken]
            chance, rise = (values[of_taken] for values in ((alone, rise_alone) if n_taken == 1 else chances[n_taken]))
            # members of the other part make their graphs longer than their room is
            excess = sum((1 - alone[place[:, position]] for position in left), np.zeros(chance.shape))
            chance = chance * np.maximum(1 - rise * excess / nulls.reach, 0.0)
            most = np.maximum(most, (counts[len(left)].counts[counts[len(left)].place[left]] * chance).sum(axis=1))
    return most
