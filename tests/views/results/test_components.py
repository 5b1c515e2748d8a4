"""Components, counted by hand: frequencies, maps, pairs, hypergraph, ROC-AUC."""

import math
from itertools import product

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from tests.tables.tiny_prompts import N_LAYERS
from tests.tables.tiny_run import TINY_CONFIG
from tests.views.results.naive import Naive
from tracer import Results
from tracer.errors import DataError

TASKS = (None, "antonym", "two_hop_capital")
HEADS = [f"L{layer}H{head}" for layer in range(N_LAYERS) for head in range(2)]


def frequency(naive: Naive, name: str, graphs: list[str]) -> float:
    return sum(name in naive.components(graph_id) for graph_id in graphs) / len(graphs)


@pytest.mark.parametrize("task", TASKS)
def test_the_hypergraph_has_every_component_with_its_features(results: Results, naive: Naive, task: str | None) -> None:
    graphs = naive.of_task(task)
    found = results.hypergraph(task)
    assert set(found) == {*(f"MLP{layer}" for layer in range(N_LAYERS)), *HEADS}
    for name, entry in found.items():
        assert entry["frequency"] == pytest.approx(frequency(naive, name, graphs))
        supports = {}
        for graph_id in graphs:
            for feature in naive.features(graph_id).get(name, ()):
                supports[feature] = supports.get(feature, 0) + 1
        assert {(row["layer"], row["feature"]): row["support"] for row in entry["features"]} == supports
        listed = [row["support"] for row in entry["features"]]
        assert listed == sorted(listed, reverse=True)


def test_a_circuit_at_a_threshold_holds_what_is_above_it(results: Results, naive: Naive) -> None:
    for task, threshold in ((None, 0.9), ("antonym", 0.5), (None, 1.0)):
        expected = {name for name in results.hypergraph() if frequency(naive, name, naive.of_task(task)) > threshold}
        assert set(results.circuit_at(threshold, task)["component"]) == expected


@pytest.mark.parametrize("task", TASKS)
def test_a_map_has_layers_as_rows_and_the_mlp_last(results: Results, naive: Naive, task: str | None) -> None:
    frame = results.components.map("frequency", task)
    assert frame.columns == ["layer", "H0", "H1", "MLP"]
    graphs = naive.of_task(task)
    for row in frame.iter_rows(named=True):
        assert row["H1"] == pytest.approx(frequency(naive, f"L{row['layer']}H1", graphs))
        assert row["MLP"] == pytest.approx(frequency(naive, f"MLP{row['layer']}", graphs))
    numbers = results.components.map("n_features", task)
    for row in numbers.iter_rows(named=True):
        every = {feature for graph_id in graphs for feature in naive.features(graph_id).get(f"L{row['layer']}H0", ())}
        assert row["H0"] == len(every)


def test_another_value_is_subtracted(results: Results) -> None:
    first, second = (results.components.map("frequency", task) for task in ("antonym", "city_state"))
    difference = results.components.map("frequency", "antonym", minus="city_state")
    np.testing.assert_allclose(difference.to_numpy()[:, 1:], first.to_numpy()[:, 1:] - second.to_numpy()[:, 1:])


def partners(naive: Naive, chosen: list) -> tuple[list[str], list[str]]:
    """Graphs of those prompts that have a partner which is not one of them, and of these partners."""
    pairs = {prompt.pair_id for prompt in chosen}
    theirs = [prompt for prompt in naive.prompts if prompt.pair_id in pairs and prompt not in chosen]
    mine = [prompt for prompt in chosen if prompt.pair_id in {other.pair_id for other in theirs}]
    return [prompt.graph_id for prompt in mine], [prompt.graph_id for prompt in theirs]


def names_in(layer: int) -> list[str]:
    return [f"L{layer}H0", f"L{layer}H1", f"MLP{layer}"]


FIRST_OF_PAIRS = "prompt_id IN (SELECT min(prompt_id) FROM prompts GROUP BY pair_id) OR false"


@pytest.mark.parametrize(
    ("asked", "is_meant"),
    [
        ({}, lambda prompt: True),
        ({"by_value": "antonym"}, lambda prompt: prompt.task == "antonym"),
        ({"by_value": "2", "by_column": "difficulty"}, lambda prompt: prompt.metadata["difficulty"] == 2),
    ],
)
def test_counterfactual_partners_are_subtracted(results: Results, naive: Naive, asked: dict, is_meant) -> None:
    pairs: dict[str, list[str]] = {}
    for prompt in naive.prompts:
        pairs.setdefault(prompt.pair_id, []).append(prompt.prompt_id)
    firsts = {min(prompt_ids) for prompt_ids in pairs.values()}
    chosen = [prompt for prompt in naive.prompts if is_meant(prompt) and prompt.prompt_id in firsts]
    mine, theirs = partners(naive, chosen)
    assert mine
    asked = {**asked, "where": FIRST_OF_PAIRS}
    frame = results.components.map("frequency", minus="counterfactual", **asked)
    differences = []
    for row in frame.iter_rows(named=True):
        for column, name in zip(("H0", "H1", "MLP"), names_in(row["layer"]), strict=True):
            differences.append(frequency(naive, name, mine) - frequency(naive, name, theirs))
            assert row[column] == pytest.approx(differences[-1])
    assert any(differences)


def test_a_counterfactual_of_which_nothing_says_what_it_is_counter_to_is_refused(results: Results) -> None:
    for asked, message in (
        ({}, r"both prompts of \d+ of \d+ pairs"),
        ({"by_value": "antonyms"}, "found no graph"),
        ({"by_value": "Texas", "by_column": "county"}, "no column 'county'"),
        ({"where": "county = 1"}, "county"),
        ({"what": "n_features"}, "expected frequency"),
    ):
        with pytest.raises(DataError, match=message):
            results.components.map(minus="counterfactual", **asked)
    with pytest.raises(DataError, match="found a condition"):
        results.components.map(where="task = 'antonym'")


def test_pairs_are_found_from_either_side(results: Results, naive: Naive) -> None:
    whole = results.components.pairs()
    for first, second, support in whole.select("component_a", "component_b", "support").iter_rows():
        assert support == sum({first, second} <= naive.components(graph_id) for graph_id in naive.graphs)
        for one, other in ((first, second), (second, first)):
            found = results.components.pairs(one)
            row = found.row(by_predicate=pl.col("component_b") == other, named=True)
            assert row["component_a"] == one
            assert row["support"] == support
            assert row["n_a"] == sum(one in naive.components(graph_id) for graph_id in naive.graphs)
    with pytest.raises(DataError, match="component 'MLP9'"):
        results.components.pairs("MLP9")


def test_the_map_of_pairs_is_symmetric_with_each_component_s_own_support(results: Results, naive: Naive) -> None:
    frame = results.components.pair_map()
    names = frame["component"].to_list()
    assert frame.columns[1:] == names
    matrix = frame.drop("component").to_numpy()
    np.testing.assert_array_equal(matrix, matrix.T)
    held = [naive.components(graph_id) for graph_id in naive.graphs]
    for (row, one), (column, other) in product(enumerate(names), repeat=2):
        both = sum({one, other} <= components for components in held)
        is_listed = one == other or both >= TINY_CONFIG.min_support
        assert matrix[row, column] == both if is_listed else np.isnan(matrix[row, column])
    lift = results.components.pair_map("lift").drop("component").to_numpy()
    assert np.isnan(np.diag(lift)).all()
    with pytest.raises(DataError, match="expected one of: n_a"):
        results.components.pair_map("charm")


@pytest.mark.parametrize("score", ["frequency", "n_features", "influence_mean", "product"])
def test_roc_auc_counts_ties_half_and_absent_heads_as_zero(results: Results, score: str) -> None:
    right = ["L0H1", "L2H0"]
    found = results.components.frequency()
    scores = dict(found.select("component", score).iter_rows())
    names = [f"L{layer}H{head}" for layer in range(N_LAYERS) for head in range(4)]
    values = [scores.get(name) or 0.0 for name in names]
    wins = [
        (a > b) + (a == b) / 2
        for a, name in zip(values, names, strict=True) if name in right
        for b, other in zip(values, names, strict=True) if other not in right
    ]  # fmt: skip
    auc = results.components.roc_auc(right, score, n_heads=4)
    assert auc == pytest.approx(sum(wins) / len(wins))
    assert auc == pytest.approx(roc_auc_score([name in right for name in names], values))


def test_roc_auc_refuses_heads_that_are_not_there_none_and_all(results: Results) -> None:
    with pytest.raises(DataError, match="no head L0H7"):
        results.components.roc_auc(["L0H7"])
    assert math.isfinite(results.components.roc_auc(["L0H7"], n_heads=8))
    for heads in ([], HEADS):
        with pytest.raises(DataError, match="of 6 heads"):
            results.components.roc_auc(heads)
