"""Results files with nothing in them but what comparisons read, made without aggregating anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.tables.tiny_prompts import TinyPrompt, draw_prompts
from tests.tables.tiny_run import tiny_run_row
from tests.tables.tiny_shard import shard_tables
from tracer.tables.building import build_database, create_table, insert_rows
from tracer.tables.schema import SCHEMA_VERSION, TABLES

MADE = ("prompts", "graphs", "nodes", "edges", "failures", "comparisons")


def write_results(root: Path, prompts: Sequence[TinyPrompt], **run: Any) -> Path:
    """A results file of these prompts' graphs; `run` changes columns of `runs`."""
    target = root / "results.duckdb"
    rows = shard_tables(list(prompts), "s0")
    counts = {
        "parts_hash": "cc",
        "n_graphs": len(prompts),
        "n_failures": 0,
        "n_eligible_tokens": 0,
        "schema_version": SCHEMA_VERSION,
    }
    row = {**tiny_run_row(root, len(prompts)), **counts, **run}
    with build_database(target) as connection:
        for name in MADE:
            create_table(connection, TABLES[name])
            insert_rows(connection, TABLES[name], rows.get(name, TABLES[name].arrow_schema().empty_table()))
        create_table(connection, TABLES["runs"])
        insert_rows(connection, TABLES["runs"], pa.Table.from_pylist([row], schema=TABLES["runs"].arrow_schema()))
    return target


@pytest.fixture(scope="session")
def prompts() -> list[TinyPrompt]:
    """The prompts of `results`."""
    return draw_prompts(80)


@pytest.fixture(scope="session")
def results(prompts: list[TinyPrompt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results file, not to be changed."""
    return write_results(tmp_path_factory.mktemp("results"), prompts)
