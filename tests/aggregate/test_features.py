"""Counts, examples, edges and components against plain Python over the same prompts."""

import math
import statistics
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.tables.tiny_graph import tiny_graph
from tests.tables.tiny_prompts import N_LAYERS, TinyPrompt, draw_prompts
from tests.tables.tiny_run import TINY_CIRCUITS, aggregate_prompts, parts_by_table, tiny_run_row, tiny_site
from tests.tables.tiny_shard import shard_tables, tiny_feature_logits, write_shard
from tracer.aggregate.build import aggregate
from tracer.config import AggregateConfig
from tracer.storage.store import open_store
from tracer.tables.database import query
from tracer.tables.parts import write_part
from tracer.tables.schema import TABLES

Firings = dict[tuple[int, int], list[tuple[TinyPrompt, int, float]]]


@pytest.fixture(scope="module")
def prompts() -> list[TinyPrompt]:
    """The prompts of `tiny_results`."""
    return draw_prompts(60)


@pytest.fixture(scope="module")
def firings(prompts: list[TinyPrompt]) -> Firings:
    """Every activation by (layer, feature)."""
    found: Firings = defaultdict(list)
    for prompt in prompts:
        for (layer, pos, feature), activation in prompt.activations.items():
            found[layer, feature].append((prompt, pos, activation))
    return found


@pytest.fixture(scope="module")
def graph_nodes(prompts: list[TinyPrompt]) -> list[dict[str, Any]]:
    """All nodes of all graphs."""
    return [node for prompt in prompts for node in tiny_graph(prompt).nodes]


def test_activation_statistics_are_over_all_activations_before_pruning(
    tiny_results: Path, prompts: list[TinyPrompt], firings: Firings
) -> None:
    n_eligible = sum(len(prompt.tokens) - 1 for prompt in prompts)
    rows = query(tiny_results, "SELECT * FROM features").to_dicts()
    assert {(row["layer"], row["feature"]) for row in rows} == set(firings)
    for row in rows:
        found = firings[row["layer"], row["feature"]]
        activations = [activation for _, _, activation in found]
        assert row["n_firings"] == len(found)
        assert row["n_prompts"] == len({prompt.prompt_id for prompt, _, _ in found})
        assert row["activation_frequency"] == pytest.approx(len(found) / n_eligible)
        assert row["activation_mean"] == pytest.approx(statistics.fmean(activations))
        assert row["activation_sd"] == pytest.approx(statistics.pstdev(activations), abs=1e-7)
        assert row["activation_max"] == max(activations)


def test_graph_statistics_count_a_graph_once(tiny_results: Path, graph_nodes: list[dict[str, Any]]) -> None:
    kept = defaultdict(list)
    for node in graph_nodes:
        if node["kind"] == "feature":
            kept[node["layer"], node["feature"]].append(node)
    for row in query(tiny_results, "SELECT * FROM features").to_dicts():
        nodes = kept[row["layer"], row["feature"]]
        n_graphs = len({node["graph_id"] for node in nodes})
        influence = math.fsum(node["influence"] for node in nodes)
        assert (row["support"], row["n_nodes"]) == (n_graphs, len(nodes))
        assert row["graph_frequency"] == n_graphs / 60
        assert row["influence_sum"] == pytest.approx(influence)
        assert row["influence_mean"] == (pytest.approx(influence / n_graphs) if n_graphs else None)


def test_promoted_tokens_come_from_the_given_logits(tiny_results: Path) -> None:
    frame = query(
        tiny_results,
        f"SELECT {', '.join(TABLES['feature_logits'].column_names())} FROM features",
    )
    wanted = [(row[0], row[1]) for row in frame.rows()]
    assert frame.to_arrow().to_pylist() == [
        {name: row[name] for name in frame.columns} for row in tiny_feature_logits(wanted).to_pylist()
    ]


def test_a_feature_that_fires_only_where_firings_are_not_counted_is_kept(tmp_path: Path) -> None:
    parts = parts_by_table([write_shard(tmp_path, draw_prompts(3), "s0")])
    target = tmp_path / "results.duckdb"
    aggregate(
        tiny_site(tmp_path),
        parts | {"feature_counts": []},
        config=AggregateConfig(circuits=TINY_CIRCUITS),
        metadata_columns={},
        run_row=tiny_run_row(tmp_path, 3),
        feature_logits=tiny_feature_logits,
    )
    rows = query(
        target, "SELECT support, n_firings, activation_mean, activation_sd, activation_frequency FROM features"
    ).rows()
    assert rows
    assert all(support > 0 and rest == [0, None, None, 0.0] for support, *rest in rows)


def test_equal_activations_have_no_spread(tmp_path: Path) -> None:
    prompts = draw_prompts(12)
    for prompt in prompts:
        for place in prompt.activations:
            prompt.activations[place] = 0.1
    target = aggregate_prompts(tmp_path, prompts, 5)
    assert set(query(target, "SELECT activation_sd FROM features")["activation_sd"]) == {0.0}


def test_merged_examples_are_the_best_of_all_prompts(
    tmp_path: Path, prompts: list[TinyPrompt], firings: Firings
) -> None:
    target = aggregate_prompts(tmp_path, prompts, 7, config=AggregateConfig(n_examples=4, circuits=TINY_CIRCUITS))
    found = defaultdict(list)
    for row in query(target, "SELECT * FROM examples ORDER BY layer, feature, rank").to_dicts():
        assert row["rank"] == len(found[row["layer"], row["feature"]])
        found[row["layer"], row["feature"]].append((row["activation"], row["prompt_id"], row["pos"]))
    for place, everywhere in firings.items():
        by_prompt = defaultdict(list)
        for prompt, pos, activation in everywhere:
            by_prompt[prompt.prompt_id].append((-activation, prompt.prompt_id, pos))
        best = sorted(min(candidates) for candidates in by_prompt.values())[:4]
        assert found[place] == [(-negative, prompt_id, pos) for negative, prompt_id, pos in best]


def test_ties_break_on_the_prompt_id_whatever_the_shard(tmp_path: Path) -> None:
    prompts = draw_prompts(20)
    for prompt in prompts:
        for place in prompt.activations:
            prompt.activations[place] = 1.0
    target = aggregate_prompts(
        tmp_path, prompts, 4, config=AggregateConfig(n_examples=5, circuits=TINY_CIRCUITS), reverse=True
    )
    ids = query(target, "SELECT prompt_id FROM examples WHERE layer = 2 AND feature = 10 ORDER BY rank")[
        "prompt_id"
    ].to_list()
    assert ids == sorted(prompt.prompt_id for prompt in prompts)[:5]


def test_examples_that_are_not_numbers_are_left_out_and_are_no_failure(tmp_path: Path) -> None:
    rows = shard_tables(draw_prompts(6), "s0")["examples"].to_pylist()
    for row in rows[:3]:
        row["activation"] = math.nan
    table = TABLES["examples"]
    part = write_part(
        open_store(tmp_path), table, pa.Table.from_pylist(rows, schema=table.arrow_schema()), shard_id="s0", attempt=0
    )
    target = tmp_path / "results.duckdb"
    aggregate(
        tiny_site(tmp_path),
        {"examples": [part]},
        config=AggregateConfig(circuits=TINY_CIRCUITS),
        metadata_columns={},
        run_row=tiny_run_row(tmp_path, 6),
        feature_logits=tiny_feature_logits,
    )
    assert query(target, "SELECT count(*), count(*) FILTER (isnan(activation)) FROM examples").row(0) == (
        len(rows) - 3,
        0,
    )
    assert query(target, "SELECT * FROM failures").is_empty()


def test_recurring_edges_equal_a_count_by_hand(tiny_results: Path, prompts: list[TinyPrompt]) -> None:
    weights: dict[tuple[Any, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    scores: Counter[tuple[Any, ...]] = Counter()
    for prompt in prompts:
        graph = tiny_graph(prompt)
        ends = [_end(node) for node in graph.nodes]
        for edge in graph.edges:
            source, target = ends[edge["source_idx"]], ends[edge["target_idx"]]
            if source[0] in ("feature", "token"):
                weights[source + target][prompt.graph_id] += edge["weight"]
                scores[source + target] += edge["edge_score"]
    expected = {pair: list(by_graph.values()) for pair, by_graph in weights.items() if len(by_graph) >= 3}
    rows = query(tiny_results, "SELECT * FROM edge_stats").to_dicts()
    assert len(rows) == len(expected) > 50
    for row in rows:
        pair = tuple(row[name] for name in TABLES["edge_stats"].key)
        found = expected[pair]
        positive = sum(weight > 0 for weight in found)
        assert row["support"] == len(found)
        assert row["weight_mean"] == pytest.approx(statistics.fmean(found))
        assert row["weight_sd"] == pytest.approx(statistics.stdev(found))
        assert row["sign_agreement"] == max(positive, len(found) - positive) / len(found)
        assert row["edge_score_sum"] == pytest.approx(scores[pair])


def _end(node: dict[str, Any]) -> tuple[str, int, int]:
    if node["kind"] == "feature":
        return "feature", node["layer"], node["feature"]
    return node["kind"], -1, node["token_id"]


def test_tokens_and_logits_of_a_consensus_are_counted_once_for_each_graph(
    tiny_results: Path, prompts: list[TinyPrompt]
) -> None:
    influence: dict[tuple[str, int], dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for prompt in prompts:
        for node in tiny_graph(prompt).nodes:
            if node["kind"] in ("token", "logit"):
                of_graphs = influence[node["kind"], node["token_id"]][f"task={prompt.task}"]
                of_graphs[prompt.graph_id] = of_graphs.get(prompt.graph_id, 0.0) + node["influence"]
    rows = query(
        tiny_results,
        "SELECT member.* FROM circuit_members AS member JOIN circuits USING (circuit_id) "
        "WHERE circuits.kind = 'consensus' AND by_column = 'task' AND member.kind IN ('token', 'logit')",
    ).to_dicts()
    assert {row["kind"] for row in rows} == {"token", "logit"}
    for row in rows:
        of_graphs = influence[row["kind"], row["feature"]][row["circuit_id"]]
        assert row["support"] == len(of_graphs)
        assert row["influence_mean"] == pytest.approx(statistics.fmean(of_graphs.values()))


def test_recurring_edges_name_their_tokens(tiny_results: Path) -> None:
    frame = query(tiny_results, "SELECT source_kind, target_kind, source_token, target_token FROM edge_stats")
    assert {kinds for kinds in frame.select("source_kind", "target_kind").rows()} == {
        (source, target) for source in ("feature", "token") for target in ("feature", "logit")
    }
    for source_kind, target_kind, source_token, target_token in frame.rows():
        assert (source_token is not None) == (source_kind == "token")
        assert (target_token is not None) == (target_kind == "logit")


def test_components_sum_up_their_layer(tiny_results: Path, graph_nodes: list[dict[str, Any]]) -> None:
    rows = query(tiny_results, "SELECT * FROM components").to_dicts()
    rows = [row for row in rows if row["kind"] == "mlp"]
    assert [(row["component"], row["layer"]) for row in rows] == [(f"MLP{layer}", layer) for layer in range(N_LAYERS)]
    for row in rows:
        nodes = [node for node in graph_nodes if node["kind"] == "feature" and node["layer"] == row["layer"]]
        errors = [
            node["influence"] for node in graph_nodes if node["kind"] == "error" and node["layer"] == row["layer"]
        ]
        assert row["support"] == len({node["graph_id"] for node in nodes}) == pytest.approx(row["frequency"] * 60)
        assert row["n_features"] == len({node["feature"] for node in nodes})
        assert row["n_nodes"] == len(nodes)
        assert row["influence_mean"] == pytest.approx(sum(node["influence"] for node in nodes) / 60)
        assert row["error_influence_mean"] == pytest.approx(sum(errors) / 60)


def test_features_are_linked_where_their_source_is_known(tiny_results: Path) -> None:
    rows = query(tiny_results, "SELECT layer, feature, url FROM features").rows()
    assert rows
    for layer, feature, url in rows:
        assert url == f"https://www.neuronpedia.org/tiny/{layer}-mlp-set/{feature}"
