"""Pairs and tuples of features by component, and distinct features, counted by hand."""

import hashlib
from collections import Counter
from itertools import combinations, product

import numpy as np
import polars as pl
import pytest

from tests.views.results.naive import Naive
from tracer import Results
from tracer.errors import DataError


def is_pair(a: str, f: tuple, b: str, g: tuple) -> bool:
    """Each pair within a component once; no feature of an MLP beside a head that reads it."""
    if a == b:
        return f < g
    return f != g or a.startswith("MLP") == b.startswith("MLP")


def naive_pairs(naive: Naive, a: str, b: str) -> Counter:
    pairs: Counter = Counter()
    for graph_id in naive.graphs:
        held = naive.features(graph_id)
        pairs.update((f, g) for f, g in product(held.get(a, ()), held.get(b, ())) if is_pair(a, f, b, g))
    return pairs


def supports(naive: Naive, name: str) -> Counter:
    return Counter(feature for graph_id in naive.graphs for feature in naive.features(graph_id).get(name, ()))


PAIRS = [("MLP0", "MLP2"), ("MLP0", "L1H1"), ("L2H0", "L0H1"), ("MLP1", "MLP1"), ("L2H1", "MLP1"), ("L1H0", "L1H1")]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_pairs_of_two_components_either_way_round(results: Results, naive: Naive, a: str, b: str) -> None:
    expected, n_a, n_b = naive_pairs(naive, a, b), supports(naive, a), supports(naive, b)
    frame = results.cooccurrences(a, b)
    found = {}
    for row in frame.iter_rows(named=True):
        first, second = (row["layer_a"], row["feature_a"]), (row["layer_b"], row["feature_b"])
        found[first, second] = row["support"]
        assert (row["component_a"], row["component_b"]) == (a, b)
        assert (row["n_a"], row["n_b"]) == (n_a[first], n_b[second])
        assert row["lift_independent"] == pytest.approx(row["support"] * 60 / (n_a[first] * n_b[second]))
        assert row["jaccard"] == pytest.approx(row["support"] / (n_a[first] + n_b[second] - row["support"]))
    assert found == dict(expected)
    assert frame["support"].to_list() == sorted(frame["support"], reverse=True)
    turned = results.cooccurrences(b, a)
    if a != b:
        pairs = turned.select("layer_b", "feature_b", "layer_a", "feature_a", "support").rows()
        assert {((r[0], r[1]), (r[2], r[3])): r[4] for r in pairs} == found


def test_mlp_pairs_carry_the_null_of_the_table_from_either_side(results: Results) -> None:
    table = {row[:4]: row[4:] for row in results.sql(
        "SELECT layer_a, feature_a, layer_b, feature_b, lift, q_above FROM cooccurrence"
    ).iter_rows()}  # fmt: skip
    frame = results.cooccurrences("MLP2", "MLP0")
    rows = frame.select("layer_b", "feature_b", "layer_a", "feature_a", "lift", "q_above").rows()
    listed = [row for row in rows if row[4] is not None]
    assert listed
    assert all(table[row[:4]] == row[4:] for row in listed)
    assert (
        frame.filter(pl.col("lift").is_null())["support"].max()
        < frame.filter(~pl.col("lift").is_null())["support"].min()
    )
    assert results.cooccurrences("MLP0", "L1H1")["lift"].is_null().all()


def test_no_pairs_are_an_empty_frame_of_the_same_columns(results: Results) -> None:
    whole, none = (results.cooccurrences("MLP0", "L1H1", min_support=least) for least in (1, 1000))
    assert none.height == 0
    assert none.schema == whole.schema


@pytest.mark.parametrize("name", ["MLP7", "L0H9", "nonsense", "mlp0"])
def test_an_unknown_component_is_refused_with_those_that_there_are(results: Results, name: str) -> None:
    with pytest.raises(
        DataError, match=rf"component '{name}': found no such component.*one of: MLP0, MLP1, MLP2, L0H0"
    ):
        results.cooccurrences("MLP0", name)


@pytest.mark.parametrize("task", [None, "city_state"])
@pytest.mark.parametrize("components", [("MLP0",), ("MLP2", "MLP0"), ("MLP0", "L1H1", "MLP1"), ("L0H0", "L2H1")])
@pytest.mark.parametrize("k", [1, 7, 10_000])
def test_the_commonest_tuples_keep_their_owners(
    results: Results, naive: Naive, components: tuple[str, ...], task: str | None, k: int
) -> None:
    counts: Counter = Counter()
    for graph_id in naive.of_task(task):
        held = naive.features(graph_id)
        tuples = product(*(held.get(name, ()) for name in components))
        counts.update(
            features for features in tuples
            if all(is_pair(a, f, b, g) for (a, f), (b, g) in combinations(zip(components, features, strict=True), 2))
        )  # fmt: skip
    expected = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:k]
    frame = results.top_feature_tuples(k, components, by_value=task)
    owners = [column for name in components for column in (f"{name}_layer", f"{name}_feature")]
    assert frame.columns == [*owners, "support", "frequency"]
    found = [(tuple(zip(row[:-2:2], row[1:-2:2], strict=True)), row[-2]) for row in frame.iter_rows()]
    assert found == expected
    assert frame["frequency"].to_list() == pytest.approx([n / len(naive.of_task(task)) for _, n in expected])


def test_tuples_of_no_or_the_same_component_are_refused(results: Results) -> None:
    for components in ((), ("MLP0", "MLP0")):
        with pytest.raises(DataError, match="expected different components"):
            results.top_feature_tuples(3, components)
    with pytest.raises(DataError, match=r"found 'MLP0', expected a list of names|found 'MLP0'; expected a list"):
        results.top_feature_tuples(3, "MLP0")
    with pytest.raises(DataError, match="expected at least 1"):
        results.top_feature_tuples(0, ["MLP0"])


@pytest.mark.parametrize(("name", "task"), [(None, None), ("MLP1", None), ("L1H0", "city_state")])
def test_distinct_features_by_number_of_prompts(
    results: Results, naive: Naive, name: str | None, task: str | None
) -> None:
    prompts = [prompt for prompt in naive.prompts if task in (None, prompt.task)]
    frame = results.unique_features([name] if name else (), n_resamples=3, n_points=100, seed=5, by_value=task)
    assert frame["n_prompts"].to_list() == list(range(1, len(prompts) + 1))
    curves = []
    for resample in range(3):
        order = sorted(prompts, key=lambda p: hashlib.md5(f"5:{resample}:{p.prompt_id}".encode()).hexdigest())
        seen, curve = set(), []
        for prompt in order:
            held = naive.features(prompt.graph_id)
            names = [name] if name else ["MLP0", "MLP1", "MLP2"]
            seen |= {feature for each in names for feature in held.get(each, ())}
            curve.append(len(seen))
        curves.append(curve)
    np.testing.assert_allclose(frame["n_features_mean"], np.mean(curves, axis=0))
    np.testing.assert_allclose(frame["n_features_sd"], np.std(curves, axis=0, ddof=1))
    assert frame["n_features_min"].to_list() == np.min(curves, axis=0).tolist()
    assert frame["n_features_sd"][-1] == 0


def test_points_are_spread_up_to_all_prompts(results: Results) -> None:
    frame = results.unique_features(["MLP0", "MLP2"], n_resamples=1, n_points=4)
    assert frame["n_prompts"].to_list() == 2 * [1, 21, 40, 60]
    assert frame["n_features_sd"].is_nan().all()
    with pytest.raises(DataError, match="at least 1"):
        results.unique_features(n_resamples=0)
