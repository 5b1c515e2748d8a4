"""Pairs against both nulls: every column, what is undefined, q-values, and power beside a null that ignores length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from tracer.aggregate.hypergraph.chances import support_in_strata
from tracer.aggregate.hypergraph.pairs import Pairs, count_pairs
from tracer.aggregate.hypergraph.significance import Measures, benjamini_hochberg, pair_measures
from tracer.aggregate.incidence import Floats, Incidence, Ints
from tracer.tables.hypergraph_tables import PAIR_MEASURES

MIN_SUPPORT = 5
HELD = hnp.arrays(np.int64, st.tuples(st.integers(1, 15), st.integers(2, 9)), elements=st.integers(0, 1))


def incidence_of(held: list[Ints], n_features: int, stratum: Ints | None = None) -> Incidence:
    """The incidence of graphs given as arrays of features."""
    graph = np.repeat(np.arange(len(held)), [len(features) for features in held])
    return Incidence.of(graph, np.concatenate(held), (len(held), n_features), stratum)


def measures_of(incidence: Incidence, pairs: Pairs, min_support: int = MIN_SUPPORT) -> Measures:
    """What is said of pairs, within strata too where there are any."""
    strata = None if incidence.stratum is None else support_in_strata(incidence)
    return pair_measures(
        pairs,
        support=incidence.support,
        length=incidence.length,
        min_support=min_support,
        stratum=incidence.stratum,
        stratum_support=strata,
    )


def independent_graphs(seed: int, n_graphs: int = 1500, n_features: int = 400) -> list[Ints]:
    """Graphs of 10 or 60 draws from one Zipf distribution: features are independent, lengths are mixed."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, n_features + 1)
    chance /= chance.sum()
    return [np.unique(rng.choice(n_features, size=(10, 60)[graph % 2], p=chance)) for graph in range(n_graphs)]


def discovered(pairs: Pairs, q: Floats) -> set[tuple[int, int]]:
    found = np.flatnonzero(q < 0.05)
    return set(zip(pairs.first[found].tolist(), pairs.second[found].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_independent_features_in_graphs_of_mixed_length_give_no_discoveries(seed: int) -> None:
    incidence = incidence_of(independent_graphs(seed), 400)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    measures = measures_of(incidence, pairs)
    assert len(pairs.first) > 5_000
    assert len(discovered(pairs, measures["q_above"])) <= 1
    # the same data under a null that ignores length: what the length-aware one is there to prevent
    ignoring = stats.poisson.sf(pairs.support - 1, measures["n_a"] * measures["n_b"] / incidence.n_graphs)
    n_frequent = int((incidence.support >= MIN_SUPPORT).sum())
    assert (benjamini_hochberg(np.asarray(ignoring), n_frequent * (n_frequent - 1) // 2) < 0.05).sum() > 100


def test_features_of_every_graph_do_not_make_the_others_seem_to_belong_together() -> None:
    rng = np.random.default_rng(0)
    everywhere = np.arange(200, 215)
    chance = 1 / np.arange(1, 201) ** 0.3
    draws = [rng.choice(200, size=(3, 20)[graph % 2], p=chance / chance.sum()) for graph in range(6000)]
    incidence = incidence_of([np.concatenate([np.unique(features), everywhere]) for features in draws], 215)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    measures = measures_of(incidence, pairs)
    assert len(discovered(pairs, measures["q_above"])) <= 1
    assert len(discovered(pairs, measures["q_below"])) == 0


def test_pairs_of_one_task_are_chance_within_strata_and_a_planted_pair_is_not() -> None:
    rng = np.random.default_rng(3)
    n_tasks, n_graphs, n_own = 6, 900, 40
    stratum = np.arange(n_graphs) % n_tasks + 10
    graphs = [
        (task - 10) * n_own + rng.choice(n_own, size=(6, 14)[graph // n_tasks % 2], replace=False)
        for graph, task in enumerate(stratum)
    ]
    for graph in rng.choice(np.flatnonzero(stratum == 10), size=20, replace=False):
        graphs[graph] = np.append(graphs[graph], [240, 241])
    incidence = incidence_of(graphs, 242, stratum)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    measures = measures_of(incidence, pairs)
    assert (measures["q_above"] < 0.05).mean() > 0.9
    assert discovered(pairs, measures["q_above_stratified"]) == {(240, 241)}


@settings(max_examples=60, deadline=None)
@given(held=HELD, has_strata=st.booleans(), min_support=st.integers(1, 3))
def test_every_column_follows_from_its_definition(held: Ints, has_strata: bool, min_support: int) -> None:
    stratum = np.arange(len(held)) % 3 if has_strata else None
    incidence = Incidence.of(*np.nonzero(held), held.shape, stratum)
    pairs = count_pairs(incidence, min_support)
    measures = measures_of(incidence, pairs, min_support)
    assert set(measures) == {column.name for column in PAIR_MEASURES}
    assert {len(values) for values in measures.values()} == {len(pairs.first)}
    n_a, n_b, both = held.sum(axis=0)[pairs.first], held.sum(axis=0)[pairs.second], pairs.support
    np.testing.assert_array_equal(measures["n_a"], n_a)
    np.testing.assert_array_equal(measures["n_b"], n_b)
    np.testing.assert_allclose(measures["jaccard"], both / (n_a + n_b - both))
    for suffix in ("", "_stratified"):
        expected = measures[f"expected{suffix}"]
        if suffix and not has_strata:
            assert all(measures[f"{name}{suffix}"].mask.all() for name in ("expected", "lift", "npmi", "p_below"))
            continue
        assert np.all((expected > 0) & (expected <= np.minimum(n_a, n_b) * (1 + 1e-6)))
        np.testing.assert_allclose(measures[f"lift{suffix}"], both / expected)
        np.testing.assert_allclose(measures[f"p_above{suffix}"], stats.poisson.sf(both - 1, expected), rtol=1e-9)
        np.testing.assert_allclose(measures[f"p_below{suffix}"], stats.poisson.cdf(both, expected), rtol=1e-9)
        everywhere = both == len(held)
        assert np.array_equal(np.ma.getmaskarray(measures[f"npmi{suffix}"]), everywhere)
        npmi = np.log(both / expected)[~everywhere] / -np.log(both[~everywhere] / len(held))
        np.testing.assert_allclose(measures[f"npmi{suffix}"][~everywhere], np.clip(npmi, -1, 1))
        assert np.all(measures[f"q_above{suffix}"] >= measures[f"p_above{suffix}"] * (1 - 1e-12))


def test_what_is_undefined_is_masked_and_a_pair_that_never_meets_has_the_least_npmi() -> None:
    incidence = Incidence.of(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), (4, 5))
    pairs = Pairs(first=np.array([0, 3, 1]), second=np.array([1, 4, 2]), support=np.array([0, 0, 1]))
    measures = measures_of(incidence, pairs, 1)
    assert measures["jaccard"].mask.tolist() == [False, True, False]
    for name in ("lift", "npmi", "p_above", "q_below"):
        assert np.ma.getmaskarray(measures[name])[1]
    assert measures["npmi"][0] == -1
    assert measures["p_above"][0] == 1


@settings(max_examples=50, deadline=None)
@given(
    p=hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1, allow_subnormal=False)),
    n_more=st.integers(0, 50),
)
def test_unlisted_pairs_count_as_tests_with_p_one(p: np.ndarray, n_more: int) -> None:
    everything = stats.false_discovery_control(np.concatenate([p, np.ones(n_more)]))
    np.testing.assert_allclose(benjamini_hochberg(p, len(p) + n_more), everything[: len(p)], rtol=1e-12, atol=1e-300)
