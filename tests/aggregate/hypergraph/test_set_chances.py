"""What sets are judged by, against sums over graphs one at a time."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tests.aggregate.hypergraph.planted_corpora import Recipe, planted_corpus, task_corpus
from tracer.aggregate.hypergraph import set_chances
from tracer.aggregate.hypergraph.chances import fit_null, slopes
from tracer.aggregate.hypergraph.set_chances import set_measures
from tracer.aggregate.hypergraph.sets import recurring_sets
from tracer.aggregate.incidence import Floats, Incidence, Ints


def by_graph(incidence: Incidence, support: Ints) -> tuple[Floats, Floats, Floats]:
    """Chances and their rises with room for one thing of these supports by stratum, and `C`, for each graph."""
    stratum = np.zeros(incidence.n_graphs, int) if incidence.stratum is None else incidence.stratum
    chance, rise, reach = np.zeros((3, incidence.n_graphs))
    for place, number in enumerate(np.unique(stratum)):
        graphs = np.flatnonzero(stratum == number)
        held = incidence.matrix[graphs]
        null = fit_null(np.asarray(held.sum(axis=0)), incidence.length[graphs], set_chances.N_LENGTH_BINS)
        alone = null.chances(support[place : place + 1])[0]
        chance[graphs] = alone[null.cell]
        rise[graphs] = (slopes(alone, is_closed=null.is_closed) / np.maximum(alone, 1e-300))[null.cell]
        reach[graphs] = null.reach[null.cell]
    return chance, rise, reach


def given_parts(incidence: Incidence, members: list[int]) -> float:
    """The most that a split explains, from its definition."""
    held = incidence.matrix.toarray()[:, members].astype(bool)
    stratum = np.zeros(incidence.n_graphs, int) if incidence.stratum is None else incidence.stratum
    numbers = np.unique(stratum)

    def support(positions: tuple[int, ...]) -> Ints:
        whole = held[:, positions].all(axis=1)
        return np.array([whole[stratum == number].sum() for number in numbers])

    alone = [by_graph(incidence, support((position,)))[0] for position in range(len(members))]
    explained = []
    for n_taken in range(1, len(members) // 2 + 1):
        for taken in combinations(range(len(members)), n_taken):
            left = [position for position in range(len(members)) if position not in taken]
            chance, rise, reach = by_graph(incidence, support(taken))
            excess = sum(1 - alone[position] for position in left)
            chance = chance * np.maximum(1 - rise * excess / reach, 0)
            explained.append(chance[held[:, left].all(axis=1)].sum())
    return max(explained)


@pytest.mark.parametrize("stratified", [False, True])
def test_measures_are_sums_over_graphs(monkeypatch: pytest.MonkeyPatch, stratified: bool) -> None:
    if stratified:
        incidence = task_corpus(0, n_tasks=3, n_graphs=400, n_features=25)
    else:
        sets = (("triple", 3, 0.2, 0.5), ("five", 5, 0.2, 0.5))
        incidence = planted_corpus(Recipe(n_graphs=400, alone=((8, 0.1, 0.6),), sets=sets), 0).incidence
    monkeypatch.setattr(set_chances, "COUNTS_PER_TASK", 20_000)
    monkeypatch.setattr(set_chances, "BIT_BYTES", 10_000)  # of a few items at a time
    for sets in recurring_sets(incidence, min_support=40, max_size=5, max_sets=300).by_size:
        measures = set_measures(incidence, sets)
        for place in range(0, len(sets.members), max(1, len(sets.members) // 4)):
            expected = given_parts(incidence, sets.members[place].tolist())
            assert measures["expected_given_parts"][place] == pytest.approx(expected)
            assert measures["lift_given_parts"][place] == pytest.approx(sets.support[place] / expected)
            above = stats.poisson.sf(sets.support[place] - 1, expected)
            assert measures["p_above"][place] == pytest.approx(above)
            assert measures["q_above"][place] >= measures["p_above"][place]


def test_independent_sets_are_expected_as_often_as_they_occur() -> None:
    alone = ((60, 0.05, 0.1), (30, 0.1, 0.5), (15, 0.5, 0.9))
    incidence = planted_corpus(Recipe(n_graphs=20_000, alone=alone, sets=()), 0).incidence
    (sets,) = recurring_sets(incidence, min_support=2000, max_size=3, max_sets=10_000).by_size
    measures = set_measures(incidence, sets)
    assert len(sets.members) > 500
    assert sets.support.sum() / measures["expected"].sum() == pytest.approx(1, abs=0.01)
    assert (measures["q_above"] <= 0.05).sum() == 0


def test_a_pair_beside_a_third_and_two_pairs_are_no_discoveries_and_a_triple_is() -> None:
    planted = (("pair", 2, 0.3, 0.8), ("pair", 2, 0.3, 0.8), ("triple", 3, 0.3, 0.5))
    corpus = planted_corpus(Recipe(n_graphs=4000, alone=((30, 0.02, 0.2), (5, 0.2, 0.7)), sets=planted), 1)
    discovered = set()
    for sets in recurring_sets(corpus.incidence, min_support=50, max_size=4, max_sets=100_000).by_size:
        is_found = (set_measures(corpus.incidence, sets)["q_above"] <= 0.05).filled(False)
        discovered |= set(map(tuple, sets.members[is_found].tolist()))
    assert discovered == {corpus.planted[2].members}
