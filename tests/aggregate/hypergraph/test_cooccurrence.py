"""The table of pairs that co-occur, against counts over the graphs of a tiny run."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.tables.tiny_graph import tiny_graph
from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import TINY_CIRCUITS, aggregate_prompts
from tracer.config import AggregateConfig
from tracer.tables.database import query


def npmi_of(n_both: int, expected: float, n_graphs: int) -> float:
    """Normalised pointwise mutual information from its definition, within its bounds."""
    return min(max(np.log(n_both / expected) / -np.log(n_both / n_graphs), -1.0), 1.0)


def test_the_table_holds_what_is_counted_in_the_graphs(tmp_path: Path) -> None:
    prompts = draw_prompts(60)
    target = aggregate_prompts(
        tmp_path, prompts, 3, config=AggregateConfig(min_support=4, stratify_by="task", circuits=TINY_CIRCUITS)
    )
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
        for suffix in ("", "_stratified"):
            expected = row[f"expected{suffix}"]
            assert row[f"npmi{suffix}"] == pytest.approx(npmi_of(n, expected, len(prompts)))
            assert row[f"p_above{suffix}"] == pytest.approx(stats.poisson.sf(n - 1, expected))
            assert row[f"p_below{suffix}"] == pytest.approx(stats.poisson.cdf(n, expected))
            assert row[f"q_above{suffix}"] >= row[f"p_above{suffix}"]


def test_without_strata_their_columns_are_empty_and_known_chains_are_discovered(tiny_results: Path) -> None:
    frame = query(tiny_results, "SELECT * FROM cooccurrence")
    assert frame["expected_stratified"].null_count() == frame["lift_stratified"].null_count() == frame.height
    for n, expected, npmi in frame.select("support", "expected", "npmi").rows():
        assert npmi == pytest.approx(npmi_of(n, expected, n_graphs=60))
    found = frame.filter(frame["q_above"] < 0.05).select("layer_a", "feature_a", "layer_b", "feature_b").rows()
    assert set(found) == {(a, state, b, state) for state in range(3) for a, b in ((0, 1), (0, 2), (1, 2))}
