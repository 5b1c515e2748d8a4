"""Comparisons of a results file: what they count, what they refuse, and the table that a run makes of them."""

from pathlib import Path

import polars as pl
import pytest

from tests.aggregate.comparing.conftest import write_results
from tests.tables.tiny_graph import tiny_graph
from tests.tables.tiny_prompts import STATES, TinyPrompt, draw_prompts
from tracer.aggregate.comparing.build import build_comparisons
from tracer.aggregate.comparing.compare import compare, compare_as
from tracer.config import ComparisonConfig
from tracer.errors import ConfigError, DataError
from tracer.tables.database import connect, query
from tracer.tables.schema import TABLES

TEXAS, OTHERS = "text LIKE '%Dallas%' OR text LIKE '%Houston%' OR text LIKE '%Plano%'", "task = 'antonym'"
CITIES = STATES["Texas"][1]


def held_by(prompts: list[TinyPrompt]) -> dict[str, list[set]]:
    """By kind what each prompt's graph holds, from its nodes and edges."""
    held: dict[str, list[set]] = {"feature": [], "pair": [], "edge": []}
    for prompt in prompts:
        graph = tiny_graph(prompt)
        features = {(node["layer"], node["feature"]) for node in graph.nodes if node["kind"] == "feature"}
        held["feature"].append({("feature", *one, "none", -1, -1) for one in features})
        held["pair"].append({("feature", *a, "feature", *b) for a in features for b in features if a < b})
        ends = [
            (node["kind"], node["layer"], node["feature"]) if node["kind"] == "feature" else
            (node["kind"], -1, node["token_id"]) for node in graph.nodes
        ]  # fmt: skip
        edges = {(*ends[edge["source_idx"]], *ends[edge["target_idx"]]) for edge in graph.edges}
        held["edge"].append({edge for edge in edges if edge[0] != "error"})
    return held


def rows_by_item(frame: pl.DataFrame) -> dict[tuple, tuple]:
    """Supports by kind and item."""
    keys = TABLES["comparisons"].key[1:]
    counts = frame.select("support_first", "support_second").rows()
    return dict(zip(frame.select(keys).rows(), counts, strict=True))


def is_about_texas(prompt: TinyPrompt) -> bool:
    return any(f" {city}" in prompt.tokens for city in CITIES)


def test_features_pairs_and_edges_are_those_of_the_graphs(results: Path, prompts: list[TinyPrompt]) -> None:
    with connect(results) as connection:
        found = compare(connection, TEXAS, OTHERS, min_support=4, n_permutations=50)
    assert found.columns == TABLES["comparisons"].column_names()
    first = [prompt for prompt in prompts if is_about_texas(prompt)]
    second = [prompt for prompt in prompts if prompt.task == "antonym"]
    assert found.select("n_first", "n_second").unique().rows() == [(len(first), len(second))]
    expected = {}
    for kind in ("feature", "pair", "edge"):
        sides = [held_by(side)[kind] for side in (first, second)]
        for item in set().union(*sides[0], *sides[1]):
            counts = tuple(sum(item in graph for graph in side) for side in sides)
            if sum(counts) >= 4:
                expected[kind, *item] = counts
    assert rows_by_item(found) == expected
    best = found.filter(kind="feature").head(3)
    assert set(best.select("layer_a", "feature_a").rows()) == {(0, 0), (1, 0), (2, 0)}
    assert (best["q"] < 0.01).all()
    assert found["effect_size"].is_not_null().all()


def test_order_of_the_prompts_changes_nothing(tmp_path: Path, results: Path, prompts: list[TinyPrompt]) -> None:
    target = write_results(tmp_path, prompts[::-1])
    with connect(results) as one, connect(target) as other:
        frames = [compare(connection, TEXAS, OTHERS, kinds=["feature"]) for connection in (one, other)]
    assert frames[0].equals(frames[1])


def test_counterfactuals_are_compared_pair_by_pair(results: Path, prompts: list[TinyPrompt]) -> None:
    by_pair: dict[str, list[TinyPrompt]] = {}
    for prompt in prompts:
        by_pair.setdefault(prompt.pair_id, []).append(prompt)
    texan = {key: [is_about_texas(prompt) for prompt in pair] for key, pair in by_pair.items()}
    mixed = [pair if texan[key][0] else pair[::-1] for key, pair in by_pair.items() if sum(texan[key]) == 1]
    both = [key for key in by_pair if all(texan[key])]
    with connect(results) as connection:
        with pytest.raises(DataError, match=f"both prompts of {len(both)} of {len(both) + len(mixed)} pairs"):
            compare(connection, TEXAS, against="counterfactual")
        one_of_two = f"({TEXAS}) AND pair_id NOT IN ({', '.join(map(repr, both))})"
        found = compare(connection, one_of_two, against="counterfactual", kinds=["feature"], min_support=1)
        sides = compare(connection, one_of_two, f"NOT ({TEXAS})", paired=True, kinds=["feature"], min_support=1)
    assert found.equals(sides)
    assert found["is_paired"].all()
    held = [held_by(side)["feature"] for side in zip(*mixed, strict=True)]
    for (_, *item), counts in rows_by_item(found).items():
        assert counts == tuple(sum(tuple(item) in graph for graph in side) for side in held)


def test_prompts_without_a_partner_are_left_out_and_counted(tmp_path: Path, prompts: list[TinyPrompt]) -> None:
    alone = next(prompt for prompt in prompts if is_about_texas(prompt))
    partner = next(prompt for prompt in prompts if prompt.pair_id == alone.pair_id and prompt is not alone)
    target = write_results(tmp_path, [prompt for prompt in prompts if prompt is not partner])
    settings = ComparisonConfig(name="t", first=TEXAS, second=f"NOT ({TEXAS})", paired=True, kinds=["feature"])
    with connect(target) as connection:
        found = compare_as(connection, settings, min_support=5)
        n_graphs = len(connection.execute(f"SELECT 1 FROM prompts WHERE {TEXAS}").fetchall())
    assert found.n_first == found.n_second
    assert found.n_without_partner == n_graphs - found.n_first > 0


def test_two_runs_over_the_same_features_are_compared(tmp_path: Path, results: Path, prompts: list[TinyPrompt]) -> None:
    others = [prompt for prompt in draw_prompts(60, seed=1) if prompt.task == "antonym"]
    target = write_results(tmp_path, others)
    with connect(results) as here, connect(target) as there:
        found = compare((here, there), TEXAS, "true", kinds=["feature", "edge"], min_support=2, n_permutations=9)
        same = compare((here, here), TEXAS, OTHERS, kinds=["feature"])
        assert same.equals(compare(here, TEXAS, OTHERS, kinds=["feature"]))
    first, second = held_by([prompt for prompt in prompts if is_about_texas(prompt)]), held_by(others)
    for (kind, *item), counts in rows_by_item(found).items():
        assert counts == tuple(sum(tuple(item) in graph for graph in side[kind]) for side in (first, second))
    assert found["n_second"].unique().to_list() == [len(others)]


@pytest.mark.parametrize("column", ["model_hash", "transcoders_hash"])
def test_runs_over_other_features_are_refused(column: str, tmp_path: Path, results: Path) -> None:
    target = write_results(tmp_path, draw_prompts(4), **{column: "other"})
    message = f"{column}: found other; expected"
    with connect(results) as here, connect(target) as there, pytest.raises(DataError, match=message):
        compare((here, there), "true", "true")


def test_the_same_prompts_of_two_runs_are_paired_by_prompt(results: Path) -> None:
    with connect(results) as here, connect(results) as there:
        with pytest.raises(ConfigError, match="found two runs"):
            compare((here, there), TEXAS, against="counterfactual")
        found = compare((here, there), TEXAS, TEXAS, paired=True, kinds=["feature"])
    assert found["difference"].unique().to_list() == [0.0]
    assert found["p"].unique().to_list() == [1.0]


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("tsk = 'antonym'", "true", '"tsk" not found'),
        ("task = 'antonym'; DROP TABLE prompts", "true", "syntax error"),
        ("task = 'antonym') OR (true", "true", "syntax error"),
        ("true THEN 1 END, CASE WHEN true", "true", "syntax error"),
        ("true /* open", "true", "comment"),
        ("  ", "true", "found nothing"),
        ("task", "true", "Could not convert"),
        ("task = ?", "true", "condition"),
        ("task = 'no such task'", "true", "first side: found no graph"),
        ("true", "false", "second side: found no graph"),
        ("true", "task = 'antonym'", "prompts on both"),
    ],
)
def test_sides_that_are_none_are_refused(first: str, second: str, message: str, results: Path) -> None:
    with connect(results) as connection, pytest.raises(DataError, match=message):
        compare(connection, first, second)


def test_conditions_may_end_in_a_comment_and_ask_other_tables(results: Path) -> None:
    first = "prompt_id IN (SELECT prompt_id FROM graphs WHERE n_nodes > 0) AND task = 'antonym' -- all of them"
    with connect(results) as connection:
        found = compare(connection, first, TEXAS, kinds=["feature"])
        assert found.equals(compare(connection, OTHERS, TEXAS, kinds=["feature"]))


def test_strata_are_a_column_of_the_prompts(results: Path) -> None:
    with connect(results) as connection:
        plain = compare(connection, TEXAS, f"NOT ({TEXAS})", kinds=["feature"])
        within = compare(connection, TEXAS, f"NOT ({TEXAS})", kinds=["feature"], stratify_by="task")
        names = [name for name in plain.columns if name != "p_permutation"]
        keys = list(TABLES["comparisons"].key)
        assert plain.sort(keys).select(names).equals(within.sort(keys).select(names))
        assert not plain.sort(keys).equals(within.sort(keys))
        with pytest.raises(DataError, match="no column 'colour'"):
            compare(connection, TEXAS, OTHERS, stratify_by="colour")
        with pytest.raises(DataError, match="task for paired graphs"):
            compare(connection, TEXAS, f"NOT ({TEXAS})", paired=True, stratify_by="task")


@pytest.mark.parametrize(
    ("second", "options", "message"),
    [
        (None, {}, "found neither"),
        ("true", {"against": "counterfactual"}, "second = 'true'"),
        (None, {"against": "counterfactual", "paired": False}, "paired = False"),
        ("true", {"kinds": []}, "found none"),
        ("true", {"kinds": ["feature", "colour"]}, "some of: feature, pair, edge"),
    ],
)
def test_contradictory_settings_are_refused(second, options, message, results: Path) -> None:
    with connect(results) as connection, pytest.raises(ConfigError, match=message):
        compare(connection, TEXAS, second, **options)


def test_the_table_holds_every_comparison_and_what_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    target = write_results(tmp_path, draw_prompts(80))
    comparisons = [
        ComparisonConfig(name="texas", first=TEXAS, second=OTHERS, n_permutations=20),
        ComparisonConfig(name="typo", first="tsk = 'antonym'"),
        ComparisonConfig(name="features", first=OTHERS, second=TEXAS, kinds=["feature"], n_permutations=0),
    ]
    with connect(target, read_only=False) as connection:
        build_comparisons(connection, comparisons, min_support=4)
        expected = compare(connection, TEXAS, OTHERS, min_support=4, n_permutations=20)
    table = query(target, "SELECT * FROM comparisons")
    assert table.columns == TABLES["comparisons"].column_names()
    found = table.filter(comparison="texas").drop("comparison")
    keys = [name for name in TABLES["comparisons"].key if name != "comparison"]
    assert found.sort(keys).equals(expected.drop("comparison").sort(keys))
    turned = table.filter(comparison="features")
    assert turned["p_permutation"].null_count() == turned.height == found.filter(kind="feature").height
    (failure,) = query(target, "SELECT stage, item_id, error_class, message FROM failures").rows()
    assert failure[:3] == ("aggregate", "comparison typo", "DataError")
    assert "tsk" in failure[3]


def test_a_run_without_comparisons_has_the_empty_table(tmp_path: Path) -> None:
    target = write_results(tmp_path, draw_prompts(3))
    with connect(target, read_only=False) as connection:
        build_comparisons(connection, [], min_support=5)
    assert query(target, "SELECT * FROM comparisons").is_empty()
    assert query(target, "SELECT * FROM failures").is_empty()
