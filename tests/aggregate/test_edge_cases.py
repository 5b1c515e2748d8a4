"""Runs with hardly anything in them: what is undefined is null, and never a zero that looks measured."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.tables.tiny_prompts import TinyPrompt, draw_prompts
from tests.tables.tiny_run import METADATA_COLUMNS, TINY_CIRCUITS, aggregate_prompts, tiny_run_row, tiny_site
from tests.tables.tiny_shard import tiny_feature_logits
from tracer.aggregate.build import aggregate
from tracer.config import AggregateConfig
from tracer.tables.database import query

CONFIG = AggregateConfig(min_support=1, stratify_by="task", circuits=TINY_CIRCUITS)


def aggregated(place: Path, prompts: list[TinyPrompt], n_shards: int = 1) -> Path:
    """The results of these prompts alone."""
    return aggregate_prompts(place, prompts, n_shards, config=CONFIG)


def only_row(path: Path, sql: str) -> dict[str, Any]:
    """The one row of an answer."""
    frame: pl.DataFrame = query(path, sql)
    assert frame.height == 1
    return frame.row(0, named=True)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One prompt."""
    return aggregated(tmp_path_factory.mktemp("single"), draw_prompts(1))


def test_a_single_prompt_has_frequencies_of_one_and_no_spread(single: Path) -> None:
    kept = query(single, "SELECT * FROM feature_frequency WHERE by_column = 'task'")
    assert kept.height > 0
    assert set(kept["frequency"]) == {1.0}
    assert kept["is_always_on"].all()
    assert kept["influence_sd"].null_count() == kept.height
    assert query(single, "SELECT count(weight_sd) AS n FROM edge_stats").item() == 0
    mlps = query(single, "SELECT influence_sd FROM component_frequency WHERE kind = 'mlp'")
    assert mlps["influence_sd"].null_count() == mlps.height > 0


def test_pairs_of_a_single_prompt_are_no_surprise_and_have_no_npmi(single: Path) -> None:
    pairs = query(single, "SELECT * FROM cooccurrence")
    assert pairs.height > 0
    assert pairs["npmi"].null_count() == pairs.height
    assert (pairs["q_above"].drop_nulls() > 0.05).all()


def test_one_prompt_makes_no_clusters_and_its_circuit_no_stability(single: Path) -> None:
    kinds = query(single, "SELECT kind, stability FROM circuits")
    assert "graph_cluster" not in set(kinds["kind"])
    consensus = kinds.filter(kind="consensus")
    assert consensus["stability"].null_count() == consensus.height


def test_graphs_without_features_count_as_graphs(tmp_path: Path) -> None:
    prompts = draw_prompts(20)
    for prompt in prompts[:10]:
        prompt.activations.clear()
    path = aggregated(tmp_path, prompts, 2)
    assert only_row(path, "SELECT n_graphs FROM runs") == {"n_graphs": 20}
    largest = query(path, "SELECT max(graph_frequency) AS f, max(support) AS n FROM features").row(0)
    assert largest[0] == pytest.approx(largest[1] / 20)
    assert query(path, "SELECT max(frequency) AS f FROM components WHERE kind = 'mlp'").item() <= 0.5
    assert query(path, "SELECT count(*) AS n FROM features WHERE is_always_on").item() == 0


def test_a_run_with_one_feature_has_no_pairs_sets_or_motifs(tmp_path: Path) -> None:
    prompts = draw_prompts(12)
    for prompt in prompts:
        first = min(prompt.activations)
        activation = prompt.activations[first]
        prompt.activations.clear()
        prompt.activations[0, first[1], 0] = activation
    path = aggregated(tmp_path, prompts)
    row = only_row(path, "SELECT support, graph_frequency, is_always_on, influence_mean FROM features")
    assert (row["support"], row["graph_frequency"], row["is_always_on"]) == (12, 1.0, True)
    for name in ("cooccurrence", "hyperedges", "motifs"):
        where = " WHERE granularity <> 'component'" if name == "hyperedges" else ""
        assert query(path, f"SELECT count(*) AS n FROM {name}{where}").item() == 0
    assert query(path, "SELECT count(*) AS n FROM circuits WHERE kind = 'graph_cluster'").item() == 0


def test_without_a_graph_nothing_is_a_zero_that_looks_measured(tmp_path: Path) -> None:
    aggregate(
        tiny_site(tmp_path),
        {},
        config=CONFIG,
        metadata_columns=METADATA_COLUMNS,
        run_row=tiny_run_row(tmp_path, 0),
        feature_logits=tiny_feature_logits,
    )
    path = tmp_path / "results.duckdb"
    components = query(path, "SELECT support, frequency, influence_mean, error_influence_mean FROM components")
    assert components.height > 0
    assert set(components["support"]) == {0}
    for column in ("frequency", "influence_mean", "error_influence_mean"):
        assert components[column].null_count() == components.height
    for name in ("feature_frequency", "cooccurrence", "circuits", "errors"):
        assert query(path, f"SELECT count(*) AS n FROM {name}").item() == 0
