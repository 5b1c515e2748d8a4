"""Parts: whole or absent, exactly as declared, refused when damaged."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_shard import shard_tables, write_shard
from tracer.errors import ArtifactError
from tracer.storage.store import open_store
from tracer.tables import parts as parts_module
from tracer.tables.declare import ARROW_TYPES
from tracer.tables.parts import Part, check_part, read_part, write_part
from tracer.tables.schema import SHARD_TABLES, TABLES

FAILURES = TABLES["failures"]
ROW = {
    "stage": "trace",
    "item_id": "p1",
    "shard_id": "s1",
    "error_class": "DataError",
    "message": "m",
    "text": "t",
    "attempts": 1,
}


def write_rows(root: Path, rows: list[dict[str, object]]) -> Part:
    """One part of the table `failures`."""
    return write_part(
        open_store(root), FAILURES, pa.Table.from_pylist(rows, schema=FAILURES.arrow_schema()), shard_id="s1", attempt=0
    )


def test_every_table_of_a_shard_reads_back_as_written(tmp_path: Path) -> None:
    prompts = draw_prompts(5)
    tables = shard_tables(prompts, "s1")
    written = write_shard(tmp_path, prompts, "s1")
    assert set(written) == {table.name for table in SHARD_TABLES}
    for name, part in written.items():
        assert part.path == f"parts/{name}-s1-0.parquet"
        assert read_part(tmp_path, part).equals(tables[name])


def test_writing_leaves_nothing_but_the_named_files(tmp_path: Path) -> None:
    written = write_shard(tmp_path, draw_prompts(2), "s1")
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        part.path for part in written.values()
    }


def test_equal_rows_make_equal_bytes(tmp_path: Path) -> None:
    first, second = (
        write_shard(tmp_path / "a", draw_prompts(4), "s1"),
        write_shard(tmp_path / "b", draw_prompts(4), "s1"),
    )
    assert first == second


@settings(max_examples=25)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    root = tmp_path_factory.mktemp("run")
    part = write_rows(root, [ROW | {"text": text} for text in texts])
    assert read_part(root, part)["text"].to_pylist() == texts


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.drop_columns(["text"]),
        lambda rows: rows.select(rows.column_names[::-1]),
        lambda rows: rows.append_column("more", pa.array([1])),
        lambda rows: rows.set_column(6, "attempts", pa.array([1], type=pa.int32())),
    ],
    ids=["column missing", "columns in another order", "column too many", "narrower type"],
)
def test_rows_that_differ_from_the_declaration_are_not_written(tmp_path: Path, change: object) -> None:
    rows = pa.Table.from_pylist([ROW], schema=FAILURES.arrow_schema())
    with pytest.raises(ArtifactError, match="attempts int64"):
        write_part(open_store(tmp_path), FAILURES, change(rows), shard_id="s1", attempt=0)  # type: ignore[operator]
    assert not (tmp_path / "parts").exists()


def test_an_absent_part_is_refused(tmp_path: Path) -> None:
    part = write_rows(tmp_path, [ROW])
    (tmp_path / part.path).unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        read_part(tmp_path, part)


@pytest.mark.parametrize("n_bytes", [0, 3, 400])
def test_a_part_cut_short_is_refused(tmp_path: Path, n_bytes: int) -> None:
    part = write_rows(tmp_path, [ROW])
    path = tmp_path / part.path
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(ArtifactError, match="a damaged file"):
        check_part(tmp_path, part)


def test_a_part_of_another_schema_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = write_rows(tmp_path, [ROW])
    monkeypatch.setattr(parts_module, "SCHEMA_VERSION", 3)
    with pytest.raises(ArtifactError, match="found schema version 2; expected 3"):
        read_part(tmp_path, part)


def test_a_parquet_file_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    part = write_rows(tmp_path, [ROW])
    pq.write_table(pa.Table.from_pylist([ROW], schema=FAILURES.arrow_schema()), tmp_path / part.path)
    with pytest.raises(ArtifactError, match="schema version none"):
        check_part(tmp_path, part)


def test_a_part_of_another_number_of_rows_than_its_receipt_is_refused(tmp_path: Path) -> None:
    part = write_rows(tmp_path, [ROW])
    write_rows(tmp_path, [ROW, ROW])
    with pytest.raises(ArtifactError, match="found 2 rows; expected 1 rows"):
        check_part(tmp_path, part)


def test_a_part_with_other_bytes_than_its_receipt_is_refused(tmp_path: Path) -> None:
    part = write_rows(tmp_path, [ROW])
    write_rows(tmp_path, [ROW | {"text": "another"}])
    with pytest.raises(ArtifactError, match="sha256"):
        read_part(tmp_path, part)


def test_every_declared_key_is_a_column_and_every_column_has_a_meaning() -> None:
    for table in TABLES.values():
        names = table.column_names()
        assert len(set(names)) == len(names)
        assert set(table.key) <= set(names)
        assert not set(table.key) - set(table.stable_columns())
        assert all(column.meaning and column.type in ARROW_TYPES for column in table.columns)
