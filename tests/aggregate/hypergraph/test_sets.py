"""Recurring sets against mlxtend's fpgrowth with closed and maximal ones picked out of its list."""

import warnings
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from mlxtend.frequent_patterns import fpgrowth

from tests.benchmarks.zipf_graphs import zipf_incidence
from tracer.aggregate.hypergraph import bits, ranked, set_closure, sets
from tracer.aggregate.hypergraph.sets import RecurringSets, recurring_sets
from tracer.aggregate.incidence import Incidence, Ints

HELD = hnp.arrays(np.int64, st.tuples(st.integers(0, 14), st.integers(0, 8)), elements=st.integers(0, 1))


def all_sets(held: np.ndarray, min_support: int) -> dict[tuple[int, ...], int]:
    """Every set of items, of any size, in `min_support` rows or more, with its support."""
    if held.size == 0 or len(held) < min_support:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fpgrowth(pd.DataFrame(held.astype(bool)), min_support=(min_support - 0.5) / len(held))
    return {
        tuple(sorted(members)): round(share * len(held))
        for members, share in zip(found["itemsets"], found["support"], strict=True)
    }


def n_candidates(
    held: np.ndarray, everything: dict[tuple[int, ...], int], size: int, least: int, min_support: int
) -> int:
    """Sets of which the two parts that leave out one of the two commonest members have the support `least`."""
    support = held.sum(axis=0)
    ranked = [item for item in np.argsort(-support, kind="stable").tolist() if support[item] >= min_support]
    rank = {item: place for place, item in enumerate(ranked)}
    parts = Counter(
        tuple(sorted(rank[item] for item in members))[1:]
        for members, n_graphs in everything.items()
        if len(members) == size - 1 and n_graphs >= least
    )
    return sum(n_parts * (n_parts - 1) // 2 for n_parts in parts.values())


def check(held: np.ndarray, found: RecurringSets, min_support: int, max_size: int, max_sets: int) -> None:
    """Everything that is said of the sets is so."""
    everything = all_sets(held, min_support)
    larger: dict[tuple[int, ...], int] = {}
    for members, support in everything.items():
        for part in combinations(members, len(members) - 1):
            larger[part] = max(larger.get(part, 0), support)
    assert [of_size.size for of_size in found.by_size] == list(range(3, max_size + 1))
    for of_size in found.by_size:
        supports = sorted((n for members, n in everything.items() if len(members) == of_size.size), reverse=True)
        least = min_support if len(supports) <= max_sets else supports[max_sets] + 1
        assert of_size.min_support_listed == least
        assert of_size.n_found == (len(supports) if least == min_support else None)
        assert of_size.n_tested == n_candidates(held, everything, of_size.size, least, min_support)
        closed = {
            members: support
            for members, support in everything.items()
            if len(members) == of_size.size and support >= least and larger.get(members, 0) < support
        }
        listed = list(map(tuple, of_size.members.tolist()))
        assert dict(zip(listed, of_size.support.tolist(), strict=True)) == closed
        assert listed == sorted(listed, key=lambda members: (-closed[members], members))
        assert of_size.is_closed.all()
        maximal = {members for members in closed if members not in larger}
        assert {members for members, flag in zip(listed, of_size.is_maximal, strict=True) if flag} == maximal


@settings(max_examples=80, deadline=None)
@given(
    held=HELD,
    min_support=st.integers(1, 4),
    max_size=st.integers(2, 5),
    max_sets=st.sampled_from([1, 3, 10, 1000]),
    n_ranks=st.sampled_from([1, 3, 100]),
)
def test_sets_are_those_of_fpgrowth(held: Ints, min_support: int, max_size: int, max_sets: int, n_ranks: int) -> None:
    incidence = Incidence.of(*np.nonzero(held), held.shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sets, "RANKS_AT_FIRST", n_ranks)
        found = recurring_sets(incidence, min_support=min_support, max_size=max_size, max_sets=max_sets)
    check(held, found, min_support, max_size, max_sets)


@pytest.mark.parametrize("graphs_per_bit", [0, 4, 64])
@pytest.mark.parametrize(("max_sets", "n_ranks"), [(100, 8), (100, 1000), (100_000, 8), (3, 8)])
def test_sets_of_many_graphs_are_those_of_fpgrowth_however_work_is_cut(
    monkeypatch: pytest.MonkeyPatch, max_sets: int, n_ranks: int, graphs_per_bit: int
) -> None:
    incidence = zipf_incidence(600, 0, n_items=300, mean_draws=25, n_communities=4, community_size=6)
    monkeypatch.setattr(sets, "GRAPHS_PER_TASK", 300)
    monkeypatch.setattr(sets, "MARKS_PER_TASK", 2000)
    monkeypatch.setattr(sets, "RANKS_AT_FIRST", n_ranks)
    monkeypatch.setattr(sets, "WIDENING", 2)
    monkeypatch.setattr(set_closure, "WORDS_OF_ITEM", 2)
    for module in (bits, set_closure):
        monkeypatch.setattr(module, "WORDS_AT_ONCE", 500 if graphs_per_bit else 20)
    monkeypatch.setattr(ranked, "GRAPHS_AT_ONCE", 70)
    monkeypatch.setattr(ranked, "GRAPHS_PER_BIT", graphs_per_bit)
    found = recurring_sets(incidence, min_support=40, max_size=4, max_sets=max_sets)
    check(incidence.matrix.toarray(), found, 40, 4, max_sets)


def test_all_ones_are_one_set_and_the_whole_alone_is_closed() -> None:
    incidence = Incidence.of(*np.nonzero(np.ones((5, 4))), (5, 4))
    triples, fours = recurring_sets(incidence, min_support=2, max_size=4, max_sets=10).by_size
    assert (triples.n_found, len(triples.members)) == (4, 0)
    assert fours.members.tolist() == [[0, 1, 2, 3]]
    assert (fours.support.tolist(), fours.is_maximal.tolist()) == ([5], [True])
