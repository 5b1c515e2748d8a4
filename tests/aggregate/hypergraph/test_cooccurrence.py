"""Pairs that co-occur: counts against brute force, no false discoveries under the null, planted pairs found."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse, stats

from tests.tables.tiny_graph import tiny_graph
from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import aggregate_prompts
from tracer.aggregate.hypergraph import cooccurrence
from tracer.aggregate.hypergraph.chances import Ints
from tracer.aggregate.hypergraph.cooccurrence import (
    Pairs,
    benjamini_hochberg,
    count_pairs,
    expected_in_strata,
    expected_support,
)
from tracer.config import AggregateConfig
from tracer.tables.database import query
from tracer.tables.schema import TABLES

MIN_SUPPORT = 5


def incidence_of(held: list[Ints], n_features: int) -> sparse.csr_array:
    """The incidence matrix of graphs given as arrays of distinct features."""
    rows = np.repeat(np.arange(len(held)), [len(features) for features in held])
    columns = np.concatenate(held)
    return sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, columns)), shape=(len(held), n_features))


def independent_graphs(seed: int, n_graphs: int = 1500, n_features: int = 400) -> list[Ints]:
    """Graphs of 10 or 60 draws from one Zipf distribution: features are independent, lengths are mixed."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, n_features + 1)
    chance /= chance.sum()
    return [np.unique(rng.choice(n_features, size=(10, 60)[graph % 2], p=chance)) for graph in range(n_graphs)]


def q_values(incidence: sparse.csr_array, pairs: Pairs, expected: np.ndarray) -> np.ndarray:
    """q_above as the table has it."""
    n_frequent = int((incidence.sum(axis=0) >= MIN_SUPPORT).sum())
    return benjamini_hochberg(stats.poisson.sf(pairs.support - 1, expected), n_frequent * (n_frequent - 1) // 2)


@settings(max_examples=60, deadline=None)
@given(
    held=hnp.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 9)), elements=st.integers(0, 1)),
    min_support=st.integers(1, 4),
)
def test_counts_of_pairs_equal_brute_force(held: Ints, min_support: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "FEATURES_PER_BLOCK", 2)
        pairs = count_pairs(sparse.csr_array(held), min_support)
    found = {
        (a, b): n for a, b, n in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.support.tolist(), strict=True)
    }
    shared = {(a, b): int((held[:, a] & held[:, b]).sum()) for a, b in combinations(range(held.shape[1]), 2)}
    assert found == {pair: n for pair, n in shared.items() if n >= min_support}


@pytest.mark.parametrize("seed", range(3))
def test_independent_features_in_graphs_of_mixed_length_give_no_discoveries(seed: int) -> None:
    incidence = incidence_of(independent_graphs(seed), 400)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    support = np.asarray(incidence.sum(axis=0)).ravel()
    ignoring_length = support[pairs.first] * support[pairs.second] / incidence.shape[0]
    assert len(pairs.first) > 5_000
    assert (q_values(incidence, pairs, expected_support(incidence, pairs)) < 0.05).sum() <= 1
    # the same data under a null that ignores length: what the length-aware one is there to prevent
    assert (q_values(incidence, pairs, ignoring_length) < 0.05).sum() > 100


def test_features_of_every_graph_do_not_make_the_others_seem_to_belong_together() -> None:
    rng = np.random.default_rng(0)
    everywhere = np.arange(200, 215)
    chance = 1 / np.arange(1, 201) ** 0.3
    draws = [rng.choice(200, size=(3, 20)[graph % 2], p=chance / chance.sum()) for graph in range(6000)]
    incidence = incidence_of([np.concatenate([np.unique(features), everywhere]) for features in draws], 215)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    expected = expected_support(incidence, pairs)
    assert (q_values(incidence, pairs, expected) < 0.05).sum() <= 1
    # the closed form, which takes length for room, is what fails here
    support, length = np.asarray(incidence.sum(axis=0)).ravel(), np.asarray(incidence.sum(axis=1)).ravel()
    closed = support[pairs.first] * support[pairs.second] * (length**2).sum() / length.sum() ** 2
    assert (q_values(incidence, pairs, closed) < 0.05).sum() > 100


def test_planted_pairs_are_found_and_nothing_else() -> None:
    rng = np.random.default_rng(7)
    graphs = independent_graphs(7)
    planted = [(400 + 2 * place, 401 + 2 * place) for place in range(8)]
    for pair in planted:
        for graph in rng.choice(len(graphs), size=25, replace=False):
            # each partner comes along in four of five graphs, and sometimes alone
            together = [feature for feature in pair if rng.random() < 0.8]
            graphs[graph] = np.union1d(graphs[graph], together).astype(np.int64)
    incidence = incidence_of(graphs, 416)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    discovered = q_values(incidence, pairs, expected_support(incidence, pairs)) < 0.05
    found = set(zip(pairs.first[discovered].tolist(), pairs.second[discovered].tolist(), strict=True))
    assert set(planted) <= found
    assert len(found) <= len(planted) + 1


def test_pairs_of_one_task_are_chance_within_strata_and_a_planted_pair_is_not() -> None:
    rng = np.random.default_rng(3)
    n_tasks, n_graphs, n_own = 6, 900, 40
    strata = np.arange(n_graphs) % n_tasks
    graphs = [
        task * n_own + rng.choice(n_own, size=(6, 14)[graph // n_tasks % 2], replace=False)
        for graph, task in enumerate(strata)
    ]
    for graph in rng.choice(np.flatnonzero(strata == 0), size=20, replace=False):
        graphs[graph] = np.append(graphs[graph], [240, 241])
    incidence = incidence_of(graphs, 242)
    pairs = count_pairs(incidence, MIN_SUPPORT)
    same_task = q_values(incidence, pairs, expected_support(incidence, pairs)) < 0.05
    within = q_values(incidence, pairs, expected_in_strata(incidence, pairs, strata)) < 0.05
    assert same_task.mean() > 0.9
    found = set(zip(pairs.first[within].tolist(), pairs.second[within].tolist(), strict=True))
    assert found == {(240, 241)}


@settings(max_examples=50, deadline=None)
@given(
    p=hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 1, allow_subnormal=False)),
    n_more=st.integers(0, 50),
)
def test_unlisted_pairs_count_as_tests_with_p_one(p: np.ndarray, n_more: int) -> None:
    everything = stats.false_discovery_control(np.concatenate([p, np.ones(n_more)]))
    np.testing.assert_allclose(benjamini_hochberg(p, len(p) + n_more), everything[: len(p)], rtol=1e-12, atol=1e-300)


@settings(max_examples=50, deadline=None)
@given(held=hnp.arrays(np.int64, st.tuples(st.integers(1, 15), st.integers(2, 9)), elements=st.integers(0, 1)))
def test_no_expected_count_passes_the_rarer_support(held: Ints) -> None:
    pairs = count_pairs(sparse.csr_array(held), 1)
    if len(pairs.first) == 0:
        return
    support = held.sum(axis=0)
    expected = expected_support(sparse.csr_array(held), pairs)
    assert np.all(expected > 0)
    assert np.all(expected <= np.minimum(support[pairs.first], support[pairs.second]) * (1 + 1e-9))


def npmi_of(n_both: int, expected: float, n_graphs: int) -> float:
    """Normalised pointwise mutual information from its definition, within its bounds."""
    return min(max(np.log(n_both / expected) / -np.log(n_both / n_graphs), -1.0), 1.0)


def test_the_table_holds_what_is_counted_in_the_graphs(tmp_path: Path) -> None:
    prompts = draw_prompts(60)
    target = aggregate_prompts(tmp_path, prompts, 3, config=AggregateConfig(min_support=4, stratify_by="task"))
    held = [
        {(node["layer"], node["feature"]) for node in tiny_graph(prompt).nodes if node["kind"] == "feature"}
        for prompt in prompts
    ]
    features = sorted(set().union(*held))
    alone = {feature: sum(feature in graph for graph in held) for feature in features}
    both = {(a, b): sum(a in graph and b in graph for graph in held) for a, b in combinations(features, 2)}
    rows = query(target, "SELECT * FROM cooccurrence").to_dicts()
    listed = {((row["layer_a"], row["feature_a"]), (row["layer_b"], row["feature_b"])): row for row in rows}
    assert set(listed) == {pair for pair, n in both.items() if n >= 4}
    for (a, b), row in listed.items():
        n = both[a, b]
        assert (row["n_a"], row["n_b"], row["support"]) == (alone[a], alone[b], n)
        assert row["jaccard"] == n / (alone[a] + alone[b] - n)
        assert row["lift"] == pytest.approx(n / row["expected"])
        assert row["lift_stratified"] == pytest.approx(n / row["expected_stratified"])
        assert row["npmi"] == pytest.approx(npmi_of(n, row["expected_stratified"], len(prompts)))
        assert row["p_above"] == pytest.approx(stats.poisson.sf(n - 1, row["expected_stratified"]))
        assert row["p_below"] == pytest.approx(stats.poisson.cdf(n, row["expected_stratified"]))
        assert row["q_above"] >= row["p_above"]


def test_without_strata_their_columns_are_empty_and_known_chains_are_discovered(tiny_results: Path) -> None:
    frame = query(tiny_results, "SELECT * FROM cooccurrence")
    assert frame["expected_stratified"].null_count() == frame["lift_stratified"].null_count() == frame.height
    for n, expected, npmi in frame.select("support", "expected", "npmi").rows():
        assert npmi == pytest.approx(npmi_of(n, expected, n_graphs=60))
    found = frame.filter(frame["q_above"] < 0.05).select("layer_a", "feature_a", "layer_b", "feature_b").rows()
    assert set(found) == {(a, state, b, state) for state in range(3) for a, b in ((0, 1), (0, 2), (1, 2))}


def test_every_column_that_rests_on_a_null_says_on_which() -> None:
    meanings = {column.name: column.meaning for column in TABLES["cooccurrence"].columns}
    for name in ("expected", "lift"):
        assert "unstratified null" in meanings[name]
    for name in ("npmi", "p_above", "p_below"):
        assert "stratified null where there are strata" in meanings[name]
    for name in ("q_above", "q_below"):
        assert name.replace("q", "p", 1) in meanings[name]
