"""The results file: built under a temporary name and renamed, opened read-only, and checked to be one of ours."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from tracer.errors import ArtifactError, DataError
from tracer.files.writing import rename_durably
from tracer.tables.declare import Table
from tracer.tables.parts import Part, check_content
from tracer.tables.schema import SCHEMA_VERSION, TABLES

Connection = duckdb.DuckDBPyConnection
"""What `connect` and `build_database` give: `execute(sql, parameters)` and its `fetchall`, `fetchnumpy`,
`to_arrow_table`.
"""

NO_ROOM = os.strerror(errno.ENOSPC)
STORAGE_VERSION = "v1.4.0"
"""Oldest DuckDB that opens a results file."""


@contextmanager
def connect(path: Path, read_only: bool = True) -> Iterator[Connection]:
    """Open a results file; the connection closes with the `with`.

    Raises:
        ArtifactError: absent, not a results file of this schema version, or held open for writing elsewhere.
    """
    if not Path(path).is_file():
        raise ArtifactError(
            str(path), found="no such file", expected="a results.duckdb", to_do="Let the run finish first."
        )
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
    except duckdb.Error as error:
        to_do = "Close whatever has it open for writing, or aggregate the run again."
        raise ArtifactError(str(path), found=_one_line(error), expected="a results.duckdb", to_do=to_do) from error
    try:
        _check_version(connection, path)
        yield connection
    finally:
        connection.close()


def _check_version(connection: Connection, path: Path) -> None:
    try:
        versions = connection.execute("SELECT schema_version FROM runs").fetchall()
    except duckdb.Error as error:
        raise ArtifactError(
            str(path), found=_one_line(error), expected="tables of a tracer run", to_do="Check the path."
        ) from error
    if versions != [(SCHEMA_VERSION,)]:
        found = f"schema version {', '.join(str(version) for (version,) in versions) or 'none'}"
        to_do = "Use the version of tracer that made it, or aggregate the run again."
        raise ArtifactError(str(path), found=found, expected=str(SCHEMA_VERSION), to_do=to_do)


def query(path: Path, sql: str) -> pl.DataFrame:
    """Answer one SQL query over a results file; of columns of one name, the later ones are numbered: a, a_1, a_2.

    Raises:
        DataError: the query is wrong, in DuckDB's words, or a column is of a type that a data frame does not have.
        ArtifactError: as `connect`.
    """
    with connect(path) as connection:
        try:
            answer = connection.sql(sql)
            rows = pa.table({}) if answer is None else answer.to_arrow_table()
        except duckdb.Error as error:
            to_do = "`tracer tables` lists the tables and their columns."
            raise DataError("query", found=str(error), expected="SQL over the tables", to_do=to_do) from error
    return _as_frame(rows.rename_columns(_distinct(rows.column_names)))


def _as_frame(rows: pa.Table) -> pl.DataFrame:
    to_do = "CAST it to a number, a time or a text, such as VARCHAR."
    for field in rows.schema:
        # polars would end in a panic inside nested types, and its writers know no bytes
        if not _has_frame_type(field.type):
            found = f"a column {field.name} of type {field.type}"
            raise DataError("query", found=found, expected="numbers, texts, times, lists or structs", to_do=to_do)
    try:
        return pl.DataFrame(rows)
    except pl.exceptions.PolarsError as error:
        raise DataError("query", found=_one_line(error), expected="columns of a data frame", to_do=to_do) from error


def _has_frame_type(kind: pa.DataType) -> bool:
    foreign = (pa.types.is_interval, pa.types.is_union, pa.types.is_binary, pa.types.is_large_binary)
    if isinstance(kind, pa.BaseExtensionType) or any(is_foreign(kind) for is_foreign in foreign):
        return False
    return all(_has_frame_type(kind.field(place).type) for place in range(kind.num_fields))


def _distinct(names: Sequence[str]) -> list[str]:
    taken, distinct = set(names), list[str]()
    for name in names:
        free = name
        if name in distinct:
            free = next(numbered for n in count(1) if (numbered := f"{name}_{n}") not in taken)
        taken.add(free)
        distinct.append(free)
    return distinct


@contextmanager
def build_database(target: Path) -> Iterator[Connection]:
    """Make a new database file; it takes the name `target` only when the `with` ends without an error.

    Tables made without a schema go into the file, `TEMP` ones beside it. Rows keep the order of an `INSERT ... ORDER
    BY`.

    Raises:
        OSError: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    connection = duckdb.connect(config={"temp_directory": f"{temporary}.spill"})
    try:
        connection.execute(f"ATTACH {literal(str(temporary))} AS results (STORAGE_VERSION '{STORAGE_VERSION}')")
        connection.execute("USE results")
        connection.execute("SET preserve_insertion_order = true")
        yield connection
        connection.execute("CHECKPOINT results")
        connection.execute("USE memory")
        connection.execute("DETACH results")
        rename_durably(temporary, target)
    except duckdb.Error as error:
        if NO_ROOM in str(error):  # DuckDB has no error of its own for it
            raise OSError(errno.ENOSPC, NO_ROOM, str(target)) from error
        raise
    finally:
        connection.close()
        temporary.unlink(missing_ok=True)
        temporary.with_name(f"{temporary.name}.wal").unlink(missing_ok=True)


def create_table(connection: Connection, table: Table, extra_columns: dict[str, str] | None = None) -> None:
    """Make an empty declared table, its meanings as comments; `extra_columns` gives further names and DuckDB types."""
    connection.execute(table.ddl())
    for name, duckdb_type in (extra_columns or {}).items():
        connection.execute(f"ALTER TABLE {quoted(table.name)} ADD COLUMN {quoted(name)} {duckdb_type}")
    connection.execute(f"COMMENT ON TABLE {quoted(table.name)} IS {literal(f'one row per {table.grain}')}")
    for column in table.columns:
        meaning = f"{column.meaning} [{column.unit}]" if column.unit else column.meaning
        place = f"{quoted(table.name)}.{quoted(column.name)}"
        connection.execute(f"COMMENT ON COLUMN {place} IS {literal(meaning)}")


def view_parts(connection: Connection, root: Path, table: Table, parts: Sequence[Part]) -> None:
    """Make the temporary view `part_<table>` over exactly the listed files (an empty one for no file).

    Raises:
        ArtifactError: a listed part is absent, damaged, altered or foreign.
    """
    for part in parts:
        check_content(root, part)
    name = quoted(f"part_{table.name}")
    if not parts:
        connection.execute(table.ddl(f"part_{table.name}").replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
        return
    files = ", ".join(
        literal(_escape_pattern(str(root / part.path))) for part in sorted(parts, key=lambda part: part.path)
    )
    connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM read_parquet([{files}])")


def insert_rows(connection: Connection, table: Table, rows: pa.Table) -> None:
    """Append rows, given in declared columns, sorted by the table's key.

    Raises:
        ArtifactError: the columns are not exactly the declared ones.
    """
    if not rows.schema.remove_metadata().equals(table.arrow_schema()):
        expected = ", ".join(table.column_names())
        found = ", ".join(f"{field.name} {field.type}" for field in rows.schema)
        raise ArtifactError(table.name, found=found, expected=expected, to_do="Mend what makes the rows.")
    connection.register("rows_to_insert", rows)
    columns = ", ".join(quoted(name) for name in table.column_names())
    order = ", ".join(quoted(name) for name in table.key)
    connection.execute(
        f"INSERT INTO {quoted(table.name)} ({columns}) SELECT {columns} FROM rows_to_insert ORDER BY {order}"
    )
    connection.unregister("rows_to_insert")


def write_labels(path: Path, method: str, labels: pa.Table, failures: pa.Table) -> None:
    """Replace the labels of `method` and its failures (whose item ids begin with its name) in one transaction.

    Raises:
        ArtifactError: as `connect` and `insert_rows`.
    """
    with connect(path, read_only=False) as connection:
        connection.execute("BEGIN")
        connection.execute("DELETE FROM labels WHERE method = ?", [method])
        connection.execute("DELETE FROM failures WHERE stage = 'label' AND starts_with(item_id, ? || ' ')", [method])
        insert_rows(connection, TABLES["labels"], labels)
        insert_rows(connection, TABLES["failures"], failures)
        connection.execute("UPDATE runs SET n_failures = (SELECT count(*) FROM failures)")
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")


def quoted(name: str) -> str:
    """A name as SQL reads it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL reads it, for the statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def _escape_pattern(path: str) -> str:
    # read_parquet takes every name for a pattern; a bracketed character stands for itself
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
