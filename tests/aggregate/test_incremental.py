"""A build that goes on from an earlier one makes the tables of a build from nothing, and reads the new shards alone."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import METADATA_COLUMNS, TINY_CIRCUITS, parts_by_table, tiny_run_row, tiny_site
from tests.tables.tiny_shard import tiny_feature_logits, write_shard
from tracer.aggregate.build import aggregate, parts_to_read
from tracer.aggregate.frequencies import recurring_edges
from tracer.aggregate.hypergraph import remembered
from tracer.config import AggregateConfig, MotifConfig
from tracer.tables.database import rows_of
from tracer.tables.equality import compare_tables
from tracer.tables.parts import Part

CONFIG = AggregateConfig(
    min_support=3,
    by=["task", "difficulty"],
    stratify_by="task",
    circuits=TINY_CIRCUITS,
    motifs=MotifConfig(max_graphs=30),
)
Shard = dict[str, Part]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Shard]]:
    """Six shards of very different tasks, the last one small."""
    root = tmp_path_factory.mktemp("shards")
    prompts = draw_prompts(66)
    cuts = [prompts[start : start + 13] for start in range(0, 66, 13)]
    return root, [write_shard(root, cut, f"shard{number}") for number, cut in enumerate(cuts)]


def build(root: Path, place: Path, listed: Sequence[Shard], config: AggregateConfig = CONFIG) -> int:
    """Aggregate these shards in `place`, going on from what is there; how many parts were read."""
    target, state = place / "results.duckdb", place / "state.duckdb"
    site = replace(tiny_site(root), target=target, state=state, earlier=(target, state))
    told = {"config": config, "metadata_columns": METADATA_COLUMNS, "run_row": tiny_run_row(root, 66)}
    parts = parts_by_table(listed)
    n_read = sum(len(read) for name, read in parts_to_read(site, parts, **told).items() if name != "failures")
    aggregate(site, parts, **told, feature_logits=tiny_feature_logits)
    return n_read


@settings(max_examples=2, deadline=None)
@given(st.permutations(range(6)), st.lists(st.integers(1, 5), min_size=1, max_size=2, unique=True))
def test_whatever_comes_in_whichever_order_the_tables_are_those_of_a_whole_build(
    shards: tuple[Path, list[Shard]], tmp_path_factory: pytest.TempPathFactory, order: list[int], cuts: list[int]
) -> None:
    root, listed = shards
    whole, grown = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("grown")
    n_all = build(root, whole, listed)
    n_before = 0
    with pytest.MonkeyPatch.context() as patch:
        for module in (recurring_edges, remembered):
            patch.setattr(module, "MAX_NEW_SHARE", 10)
        for n_shards in [*sorted(cuts), 6]:
            n_read = build(root, grown, [listed[number] for number in order[:n_shards]])
            assert n_read == n_all * (n_shards - n_before) // 6
            n_before = n_shards
    assert compare_tables(whole / "results.duckdb", grown / "results.duckdb") == []


def test_other_bounds_of_samples_lead_to_the_tables_of_a_whole_build(
    shards: tuple[Path, list[Shard]], tmp_path: Path
) -> None:
    """Graphs that an earlier build had are new in a sample that grows, leave it and come back."""
    root, listed = shards
    for n_shards, most in ((2, 8), (4, 30), (5, 12), (6, 40)):
        circuits = TINY_CIRCUITS.model_copy(update={"max_graphs": most, "max_graphs_per_value": most // 4})
        config = CONFIG.model_copy(update={"circuits": circuits, "motifs": MotifConfig(max_graphs=most)})
        build(root, tmp_path, listed[:n_shards], config)
    whole = tmp_path / "whole"
    whole.mkdir()
    build(root, whole, listed, config)
    assert compare_tables(whole / "results.duckdb", tmp_path / "results.duckdb") == []


def test_a_build_that_has_all_parts_reads_none(shards: tuple[Path, list[Shard]], tmp_path: Path) -> None:
    root, listed = shards
    build(root, tmp_path, listed[:2])
    assert build(root, tmp_path, listed[:2]) == 0
    assert rows_of(tmp_path / "results.duckdb", "SELECT n_graphs FROM runs") == [(26,)]


@pytest.mark.parametrize("lost", ["a shard", "a setting", "the state", "the results", "results of another build"])
def test_what_cannot_be_gone_on_from_is_built_from_nothing(
    shards: tuple[Path, list[Shard]], tmp_path: Path, lost: str
) -> None:
    root, listed = shards
    n_all = build(root, tmp_path, listed[:3])
    config, now = CONFIG, listed[:4]
    if lost == "a shard":
        now = listed[1:4]
    elif lost == "a setting":
        config = AggregateConfig(min_support=4)
    elif lost == "the state":
        (tmp_path / "state.duckdb").unlink()
    elif lost == "the results":
        (tmp_path / "results.duckdb").unlink()
    else:
        other = tmp_path / "other"
        other.mkdir()
        build(root, other, listed[:1])
        shutil.copy(other / "results.duckdb", tmp_path / "results.duckdb")
    assert build(root, tmp_path, now, config) == n_all // 3 * len(now)
    n_graphs = 13 * len(now)
    assert rows_of(tmp_path / "results.duckdb", "SELECT n_graphs FROM runs") == [(n_graphs,)]


def test_nothing_is_left_beside_the_files(shards: tuple[Path, list[Shard]], tmp_path: Path) -> None:
    root, listed = shards
    (tmp_path / ".results.duckdb.1.tmp.counts").mkdir()
    (tmp_path / ".results.duckdb.1.tmp").write_text("left by a build that was killed")
    build(root, tmp_path, listed[:1])
    assert {path.name for path in tmp_path.iterdir()} == {"results.duckdb", "state.duckdb"}
