"""The results file: made whole or not at all, opened only if it is ours, documented from the declarations."""

import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_shard import write_shard
from tracer.errors import ArtifactError, DataError
from tracer.storage.store import open_store
from tracer.tables.building import build_database, insert_rows, view_parts
from tracer.tables.database import connect, query
from tracer.tables.label_writing import write_labels
from tracer.tables.parts import read_part, write_part
from tracer.tables.schema import TABLES

LABEL = {
    "label_id": "a", "target_kind": "feature", "target_id": "L0/3", "layer": 0, "feature": 3, "label": "new",
    "kind": "unclear", "method": "rule",
}  # fmt: skip
FAILURE = {"stage": "label", "item_id": "rule layer 0 feature 4", "error_class": "E", "message": "m"}


def arrow(name: str, *rows: dict[str, object]) -> pa.Table:
    """Rows of a declared table."""
    return pa.Table.from_pylist(list(rows), schema=TABLES[name].arrow_schema())


def test_a_query_gives_a_polars_frame(tiny_results: Path) -> None:
    frame = query(tiny_results, "SELECT layer, count(*) AS n FROM features GROUP BY layer ORDER BY layer")
    assert frame.columns == ["layer", "n"]
    assert frame["layer"].to_list() == [0, 1, 2]


def test_columns_of_one_name_are_numbered(tiny_results: Path) -> None:
    frame = query(tiny_results, "SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a")
    assert frame.to_dicts() == [{"a": 1, "a_2": 2, "a_1": 3, "a_3": 4}]
    joined = query(tiny_results, "SELECT * FROM graphs JOIN prompts USING (prompt_id)")
    assert {"prompt_id", "n_tokens", "n_tokens_1"} <= set(joined.columns)
    assert len(joined) > 0


@pytest.mark.parametrize(
    "value",
    ["INTERVAL 3 DAY", "[{'a': INTERVAL 3 DAY}]", "union_value(n := 2)", "'abc'::BLOB", "'101'::BIT", "5::BIGNUM"],
)
def test_a_type_that_a_frame_does_not_have_is_refused_naming_the_column(tiny_results: Path, value: str) -> None:
    with pytest.raises(DataError, match="a column odd of type"):
        query(tiny_results, f"SELECT {value} AS odd")


def test_a_wrong_query_is_refused_in_the_words_of_duckdb(tiny_results: Path) -> None:
    with pytest.raises(DataError, match="Catalog Error: Table with name feature does not exist"):
        query(tiny_results, "SELECT * FROM feature")


def test_a_query_that_would_write_is_refused(tiny_results: Path) -> None:
    with pytest.raises(DataError, match="read-only"):
        query(tiny_results, "DELETE FROM features")


def test_an_absent_file_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"), connect(tmp_path / "results.duckdb"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.duckdb"
    path.write_text("not a database, but long enough to hold a header" * 200)
    with pytest.raises(ArtifactError, match=r"expected a results\.duckdb"), connect(path):
        pass


def test_a_database_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    with pytest.raises(ArtifactError, match="expected tables of a tracer run"), connect(tmp_path / "other.duckdb"):
        pass


def test_a_results_file_of_another_schema_version_is_refused(tiny_results: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_results, tmp_path))
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE runs SET schema_version = 99")
    with pytest.raises(ArtifactError, match="schema version 99"), connect(path):
        pass


def test_the_file_is_in_the_storage_format_of_duckdb_1_4_with_nothing_beside_it(tiny_results: Path) -> None:
    frame = query(
        tiny_results,
        "SELECT tags['storage_version'] AS version FROM duckdb_databases() WHERE database_name = 'results'",
    )
    assert frame["version"].to_list() == ["v1.4.0+"]
    assert {path.name for path in tiny_results.parent.iterdir()} == {"results.duckdb", "parts", "aggregates"}


def test_every_declared_column_carries_its_meaning(tiny_results: Path) -> None:
    frame = query(
        tiny_results, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE database_name = 'results'"
    )
    comments = {(table, column): comment for table, column, comment in frame.rows()}
    for name in {table for table, _ in comments}:
        for column in TABLES[name].columns:
            assert comments[name, column.name].startswith(column.meaning)


def test_a_build_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "results.duckdb"
    target.write_text("old")
    with pytest.raises(duckdb.CatalogException), build_database(target) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM range(100_000); SELECT * FROM no_such_table")
    assert [path.name for path in tmp_path.iterdir()] == ["results.duckdb"]
    assert target.read_text() == "old"


def test_parts_are_read_from_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    root = tmp_path / "run [1]* it's"
    shards = [write_shard(root, draw_prompts(6)[place : place + 3], f"s{place}") for place in (0, 3)]
    with build_database(root / "results.duckdb") as connection:
        view_parts(connection, root, TABLES["prompts"], [shard["prompts"] for shard in shards])
        assert connection.execute("SELECT count(*) FROM part_prompts").fetchall() == [(6,)]


def test_only_the_listed_parts_are_read(tmp_path: Path) -> None:
    listed = write_shard(tmp_path, draw_prompts(6)[:2], "s0")
    write_shard(tmp_path, draw_prompts(6)[2:], "s1")
    with build_database(tmp_path / "results.duckdb") as connection:
        view_parts(connection, tmp_path, TABLES["prompts"], [listed["prompts"]])
        assert connection.execute("SELECT count(*) FROM part_prompts").fetchall() == [(2,)]


def test_a_damaged_part_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    part = write_shard(tmp_path, draw_prompts(2), "s0")["nodes"]
    (tmp_path / part.path).write_bytes(b"PAR1")
    with (
        pytest.raises(ArtifactError, match="a damaged file"),
        build_database(tmp_path / "results.duckdb") as connection,
    ):
        view_parts(connection, tmp_path, TABLES["nodes"], [part])
    assert not (tmp_path / "results.duckdb").exists()


def test_a_part_that_was_altered_after_its_commit_is_refused_by_name(tmp_path: Path) -> None:
    part = write_shard(tmp_path, draw_prompts(2), "s0")["graphs"]
    rows = read_part(tmp_path, part)
    place = rows.column_names.index("n_tokens")
    altered = rows.set_column(place, "n_tokens", pc.add(rows["n_tokens"], 1))
    assert write_part(open_store(tmp_path), TABLES["graphs"], altered, shard_id="s0", attempt=0).path == part.path
    with (
        pytest.raises(ArtifactError, match=rf"{part.path}: found sha256"),
        build_database(tmp_path / "results.duckdb") as connection,
    ):
        view_parts(connection, tmp_path, TABLES["graphs"], [part])
    assert not (tmp_path / "results.duckdb").exists()


def test_rows_of_other_columns_are_not_inserted(tmp_path: Path) -> None:
    with build_database(tmp_path / "results.duckdb") as connection:
        connection.execute(TABLES["all_labels"].ddl())
        with pytest.raises(ArtifactError, match="label"):
            insert_rows(connection, TABLES["all_labels"], pa.table({"label": ["x"]}))


def test_new_labels_replace_those_of_the_same_method_only(tiny_results: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_results, tmp_path))
    n_failures = query(path, "SELECT count(*) FROM failures").item()
    write_labels(
        path,
        "llm",
        arrow("all_labels", LABEL | {"label_id": "b", "method": "llm"}),
        arrow("failures", FAILURE | {"item_id": "llm layer 0 feature 4"}),
    )
    for _ in range(2):
        write_labels(path, "rule", arrow("all_labels", LABEL), arrow("failures", FAILURE))
    rows = query(path, "SELECT method, label FROM all_labels ORDER BY method").rows()
    assert rows == [("llm", "new"), ("rule", "new")]
    assert query(path, "SELECT method FROM labels WHERE layer = 0 AND feature = 3").item() == "llm"
    assert query(path, "SELECT count(*) FROM failures WHERE stage = 'label'").item() == 2
    assert query(path, "SELECT n_failures FROM runs").item() == n_failures + 2


def test_labels_that_do_not_fit_leave_the_old_ones(tiny_results: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_results, tmp_path))
    before = query(path, "SELECT * FROM labels")
    with pytest.raises(ArtifactError):
        write_labels(path, "rule", pa.table({"label": ["x"]}), arrow("failures"))
    assert query(path, "SELECT * FROM labels").equals(before)
