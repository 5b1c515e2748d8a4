"""Labels are written into results files of older versions too."""

import shutil
from pathlib import Path

import duckdb
import pytest

from tracer.tables.database import query
from tracer.tables.label_tables import LABEL_TABLES
from tracer.tables.label_writing import changed_labels


@pytest.mark.parametrize("column", ["feature_signals.example_coherence", "all_labels.request_hash"])
def test_a_column_that_an_older_file_lacks_is_added_and_what_is_there_stays(tiny_results, tmp_path, column):
    path = Path(shutil.copy(tiny_results, tmp_path / "results.duckdb"))
    before = query(path, "SELECT * FROM labels")
    table, name = column.split(".")
    with duckdb.connect(path) as connection:
        connection.execute("DROP VIEW labels")
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
        connection.execute("CREATE VIEW labels AS SELECT * FROM all_labels WHERE is_current")
    with changed_labels(path):
        pass
    for declared in LABEL_TABLES:
        found = query(path, f"SELECT * FROM {declared.name} LIMIT 0")
        assert set(found.columns) == set(declared.column_names())
    assert query(path, "SELECT * FROM labels").select(before.columns).equals(before)
