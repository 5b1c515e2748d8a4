"""Finished runs to look at: a small one, one whose texts try to break out of the page, and one with nothing in it."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from tests.tables.tiny_harvest import build_tiny_harvest
from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import TINY_CIRCUITS, aggregate_prompts, build_tiny_run
from tracer.config import AggregateConfig
from tracer.tables.database import connect

HOSTILE = """</title></script><script>alert('x')</script><img src="https://example.org/x.png" onerror=alert(1)>&amp;'"""


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results file of a small run with labels."""
    return build_tiny_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def stratified_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without labels whose co-occurrence is expected within tasks, every q made small enough to be shown."""
    config = AggregateConfig(min_support=3, stratify_by="task", circuits=TINY_CIRCUITS)
    database = aggregate_prompts(tmp_path_factory.mktemp("stratified"), draw_prompts(48, 1), 2, config=config)
    settings = json.dumps({"aggregate": config.model_dump()})
    with connect(database, read_only=False) as connection:
        connection.execute("UPDATE runs SET config = ?", [settings])
        connection.execute(
            "UPDATE cooccurrence SET q_above = p_above / 20, q_above_stratified = p_above_stratified / 20"
        )
    return database


@pytest.fixture(scope="session")
def hostile_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run with every text replaced, or for tokens and tasks prefixed, by markup and white space."""
    database = tmp_path_factory.mktemp("hostile") / "results.duckdb"
    shutil.copy(finished_run, database)
    text = "'" + HOSTILE.replace("'", "''") + "'"
    with connect(database, read_only=False) as connection:
        for statement in (
            f"UPDATE runs SET run_id = {text}, model = {text}, transcoders = {text}, corpus = {text}",
            f"UPDATE prompts SET text = {text}, answer = {text}, task = {text} || task",
            f"UPDATE prompts SET tokens = list_transform(tokens, lambda token: {text} || token)",
            f"UPDATE nodes SET token = {text} || chr(10) || token",
            f"UPDATE logits SET token = {text} || chr(10) || token",
            f"UPDATE all_labels SET label = {text}, description = {text}",
            f"UPDATE features SET top_tokens = list_transform(top_tokens, lambda token: {text} || token)",
            f"UPDATE features SET bottom_tokens = list_transform(bottom_tokens, lambda token: {text} || token)",
            f"UPDATE edge_stats SET source_token = {text} || source_token, target_token = {text} || target_token",
            f"UPDATE examples SET window_tokens = list_transform(window_tokens, lambda token: {text} || token)",
            f"UPDATE failures SET message = {text}, text = {text}, error_class = {text}",
            f"UPDATE failures SET stage = {text}, item_id = {text}",
        ):
            connection.execute(statement)
    return database


@pytest.fixture(scope="session")
def finished_harvest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results file of a small harvest of the small run's transcoders."""
    return build_tiny_harvest(tmp_path_factory.mktemp("harvest"))


@pytest.fixture(scope="session")
def hostile_harvest(finished_harvest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small harvest with every text replaced, or for tokens prefixed, by markup and white space."""
    database = tmp_path_factory.mktemp("hostile_harvest") / "results.duckdb"
    shutil.copy(finished_harvest, database)
    text = "'" + HOSTILE.replace("'", "''") + "'"
    lists = {
        "features": ("top_tokens", "bottom_tokens"),
        "examples": ("window_tokens",),
        "feature_excitations": ("tokens",),
    }
    with duckdb.connect(str(database)) as connection:
        connection.execute(f"UPDATE harvests SET harvest_id = {text}, model = {text}, transcoders = {text}")
        connection.execute(f"UPDATE harvests SET corpus = {text}, config_fingerprint = {text}")
        for table in ("feature_tokens", "token_counts"):
            connection.execute(f"UPDATE {table} SET token = {text} || chr(10) || token")
        for table, columns in lists.items():
            for column in columns:
                changed = f"list_transform({column}, lambda token: {text} || token)"
                connection.execute(f"UPDATE {table} SET {column} = {changed}")
    return database


@pytest.fixture(scope="session")
def empty_run(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which no prompt was usable: every table but `runs` and `failures` is empty."""
    database = tmp_path_factory.mktemp("empty") / "results.duckdb"
    shutil.copy(finished_run, database)
    with connect(database, read_only=False) as connection:
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
            if table not in ("runs", "failures"):
                connection.execute(f'DELETE FROM "{table}"')
        connection.execute("UPDATE runs SET n_graphs = 0, n_prompts = 0")
    return database
