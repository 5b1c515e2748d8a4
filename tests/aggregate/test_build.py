"""The whole build: which tables there are, metadata columns, refusals, and independence of the shards."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import (
    METADATA_COLUMNS,
    TINY_CIRCUITS,
    aggregate_prompts,
    parts_by_table,
    tiny_run_row,
    tiny_site,
)
from tests.tables.tiny_shard import shard_tables, tiny_feature_logits, write_shard
from tracer.aggregate.build import CONCATENATED, aggregate
from tracer.aggregate.metadata import metadata_names, prompts_column
from tracer.config import AggregateConfig
from tracer.errors import ArtifactError, ConfigError
from tracer.storage.store import open_store
from tracer.tables.database import query
from tracer.tables.equality import compare_tables
from tracer.tables.parts import Part, write_part
from tracer.tables.schema import SCHEMA_VERSION, TABLES

LLM = ("label_scores", "label_score_means", "label_splits", "llm_calls", "feature_signals")
RARE = (
    "circuit_graphs",
    "motifs",
    "hyperedges",
    "hyperedge_members",
    "circuit_edges",
    "circuits",
    "circuit_members",
    *LLM,
)
"""Tables of what a run as small as this need not have."""


def build(root: Path, parts: dict[str, list[Part]], config: AggregateConfig | None = None) -> Path:
    """Aggregate the parts."""
    target = root / "results.duckdb"
    aggregate(
        tiny_site(root),
        parts,
        config=config or AggregateConfig(),
        metadata_columns=METADATA_COLUMNS,
        run_row=tiny_run_row(root, 0),
        feature_logits=tiny_feature_logits,
    )
    return target


def test_the_file_holds_every_declared_table_but_the_helpers(tiny_results: Path) -> None:
    tables = query(tiny_results, "SELECT table_name FROM information_schema.tables WHERE table_catalog = 'results'")
    assert set(tables["table_name"]) == set(TABLES) - {"feature_counts", "feature_logits"}
    for name in tables["table_name"]:
        columns = query(tiny_results, f"SELECT * FROM {name} LIMIT 1").columns
        assert columns[: len(TABLES[name].columns)] == TABLES[name].column_names()


def test_rows_are_sorted_by_key_or_come_in_the_order_of_the_shards(tiny_results: Path) -> None:
    for name in set(TABLES) - {"feature_counts", "feature_logits", "incidence", "labels", "comparisons"}:
        if name in CONCATENATED:
            continue
        frame = query(tiny_results, f"SELECT {', '.join(TABLES[name].key)} FROM {name}")
        assert frame.rows() == sorted(frame.rows()), name
        assert frame.height > 0 or name in RARE, name
    for name in CONCATENATED:
        graphs = query(tiny_results, f"SELECT graph_id FROM {name}")["graph_id"]
        assert graphs.rle().struct.field("value").is_duplicated().sum() == 0, f"rows of a graph of {name} lie together"


def test_metadata_columns_become_columns_of_prompts_with_their_types(tiny_results: Path) -> None:
    prompts = {prompt.prompt_id: prompt for prompt in draw_prompts(60)}
    frame = query(tiny_results, "SELECT prompt_id, text, corpus_text, difficulty, city FROM prompts")
    assert frame.height == len(prompts)
    for prompt_id, text, corpus_text, difficulty, city in frame.rows():
        metadata = prompts[prompt_id].metadata
        assert (corpus_text, difficulty, city) == (metadata["text"], metadata["difficulty"], metadata.get("city"))
        assert text == "".join(prompts[prompt_id].tokens[1:]).strip()


def test_names_of_metadata_columns_never_collide() -> None:
    names = metadata_names({"TEXT": "text", "text": "text", "corpus_text": "text", "a/b~c": "int", "A/B~C": "int"})
    lowered = [name.lower() for name in names.values()]
    assert len(set(lowered)) == 5
    assert not set(lowered) & set(TABLES["prompts"].column_names())
    assert names["A/B~C"] == "A/B~C"
    assert names["a/b~c"] == "corpus_a/b~c"


@pytest.mark.parametrize(
    ("value", "duckdb_type"), [('"x\\"y"', "text"), ("-3", "int"), ("2.5", "float"), ("true", "bool"), ("null", "int")]
)
def test_metadata_of_any_name_and_type_is_read(tmp_path: Path, value: str, duckdb_type: str) -> None:
    rows = shard_tables(draw_prompts(1), "s0")["prompts"].to_pylist()
    name = "a/b~c \"d'"
    rows[0]["metadata"] = f"{{{json.dumps(name)}: {value}}}"
    table = pa.Table.from_pylist(rows, schema=TABLES["prompts"].arrow_schema())
    part = write_part(open_store(tmp_path), TABLES["prompts"], table, shard_id="s0", attempt=0)
    target = tmp_path / "results.duckdb"
    aggregate(
        tiny_site(tmp_path),
        {"prompts": [part]},
        config=AggregateConfig(),
        metadata_columns={name: duckdb_type},
        run_row=tiny_run_row(tmp_path, 1),
        feature_logits=tiny_feature_logits,
    )
    assert query(target, "SELECT * FROM prompts")[name].to_list() == [json.loads(value)]


def test_strata_come_from_the_corpus_or_from_a_declared_column() -> None:
    assert prompts_column("text", {"text": "corpus_text"}, "aggregate.by") == "corpus_text"
    assert prompts_column("task", {}, "aggregate.by") == "task"
    with pytest.raises(
        ConfigError, match=r"aggregate\.stratify_by: found 'planet'; expected one of: task, split, city"
    ):
        prompts_column("planet", {"city": "city"}, "aggregate.stratify_by")


def test_counts_of_the_run_are_counted(tiny_results: Path) -> None:
    row = query(tiny_results, "SELECT n_graphs, n_failures, n_eligible_tokens, schema_version, model FROM runs").row(0)
    n_eligible = sum(len(prompt.tokens) - 1 for prompt in draw_prompts(60))
    assert row == (60, 1, n_eligible, SCHEMA_VERSION, "tiny")


def test_a_run_without_a_single_graph_still_makes_all_tables(tmp_path: Path) -> None:
    target = build(tmp_path, {})
    assert query(target, "SELECT n_graphs, n_failures, n_eligible_tokens FROM runs").rows() == [(0, 0, 0)]
    assert query(target, "SELECT layer, support, frequency FROM components").rows() == [
        (layer, 0, None) for layer in range(3)
    ]
    for name in ("features", "cooccurrence", "edge_stats", "examples", "prompts", "labels"):
        assert query(target, f"SELECT * FROM {name}").height == 0


def test_a_shard_committed_twice_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    parts = parts_by_table([write_shard(tmp_path, draw_prompts(4), "s0")])
    target = build(tmp_path, parts)
    old = target.read_bytes()
    doubled = parts_by_table([write_shard(tmp_path, draw_prompts(4), "s0", attempt=attempt) for attempt in (0, 1)])
    with pytest.raises(ArtifactError, match="prompt_id = .* more than once"):
        build(tmp_path, doubled)
    assert target.read_bytes() == old


def test_the_order_of_the_shards_leaves_no_trace(tmp_path: Path) -> None:
    prompts = draw_prompts(30)
    forward = aggregate_prompts(tmp_path / "a", prompts, 5)
    backward = aggregate_prompts(tmp_path / "b", prompts, 5, reverse=True)
    assert compare_tables(forward, backward) == []


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 1000), n_shards=st.integers(2, 9))
def test_any_split_into_shards_gives_the_tables_of_one_shard(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_shards: int
) -> None:
    prompts = draw_prompts(18, seed)
    root = tmp_path_factory.mktemp("run")
    config = AggregateConfig(min_support=2, n_examples=25, circuits=TINY_CIRCUITS)
    whole = aggregate_prompts(root / "whole", prompts, 1, config=config)
    split = aggregate_prompts(root / "split", prompts, n_shards, config=config)
    assert [line for line in compare_tables(whole, split) if not line.startswith("prompts.shard_id")] == []
