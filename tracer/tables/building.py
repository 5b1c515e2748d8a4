"""How database files are made: under temporary names, renamed when whole; declared tables; views of parts."""

import errno
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import pyarrow as pa

from tracer.errors import ArtifactError
from tracer.files.writing import rename_durably
from tracer.tables.database import Connection
from tracer.tables.declare import DUCKDB_TYPES, Table
from tracer.tables.parts import Part, check_content
from tracer.tables.quoting import literal, quoted

NO_ROOM = os.strerror(errno.ENOSPC)
Limits = dict[str, str | bool | int | float | list[str]]
STORAGE_VERSION = "v1.4.0"
"""Oldest DuckDB that opens a results file."""


@contextmanager
def build_database(
    target: Path,
    *,
    beside: Mapping[str, Path] = MappingProxyType({}),
    started_from: Mapping[Path, Path] = MappingProxyType({}),
    memory_limit_bytes: int | None = None,
) -> Iterator[Connection]:
    """Make a database file; it takes the name `target` only when the `with` ends without an error.

    Tables made without a schema go into the file, `TEMP` ones beside it. Rows keep the order of an `INSERT ... ORDER
    BY`.

    Args:
        target: the file.
        beside: further files made in the same way, by the name of the schema under which their tables are reached.
        started_from: for any of these files one whose tables it starts with; the others start empty.
        memory_limit_bytes: memory of the database; what does not fit lies beside the file meanwhile.

    Raises:
        OSError: the disk is full.
    """
    files = {"results": target, **beside}
    made = {name: path.with_name(f".{path.name}.{os.getpid()}.tmp") for name, path in files.items()}
    spill = f"{made['results']}.spill"
    connection = duckdb.connect(config=_limits(memory_limit_bytes, spill))
    try:
        for name, path in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            made[name].unlink(missing_ok=True)
        copied = [(started_from[path], made[name]) for name, path in files.items() if path in started_from]
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda pair: shutil.copyfile(*pair), copied))
        for name, path in files.items():
            storage = "" if path in started_from else f" (STORAGE_VERSION '{STORAGE_VERSION}')"
            connection.execute(f"ATTACH {literal(str(made[name]))} AS {quoted(name)}{storage}")
        connection.execute("USE results")
        connection.execute("SET preserve_insertion_order = true")
        yield connection
        connection.execute("USE memory")
        for name in files:
            connection.execute(f"CHECKPOINT {quoted(name)}")
            connection.execute(f"DETACH {quoted(name)}")
        for name in reversed(files):
            rename_durably(made[name], files[name])
    except duckdb.Error as error:
        if NO_ROOM in str(error):  # DuckDB has no error of its own for it
            raise OSError(errno.ENOSPC, NO_ROOM, str(target)) from error
        raise
    finally:
        connection.close()
        for path in made.values():
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.wal").unlink(missing_ok=True)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A folder beside a file that is being made, for the time of the block; what builds that were killed left there is
    removed first. Only one process at a time may make the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}.*.tmp*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
    folder = target.with_name(f".{target.name}.{os.getpid()}.tmp.counts")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_database(folder: Path, *, memory_limit_bytes: int, n_threads: int) -> Iterator[Connection]:
    """A database of temporary tables that goes with the `with`; what does not fit in memory lies in `folder`."""
    config = _limits(memory_limit_bytes, str(folder / "spill"))
    config["threads"] = n_threads
    connection = duckdb.connect(config=config)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def less_memory(connection: Connection, memory_limit_bytes: int) -> Iterator[None]:
    """Let the database hold a quarter of its memory for the time of the block, in which others need it more.

    Args:
        connection: as `build_database` gives it.
        memory_limit_bytes: the limit that it has otherwise.
    """
    connection.execute(f"SET memory_limit = '{memory_limit_bytes // 4}B'")
    try:
        yield
    finally:
        connection.execute(f"SET memory_limit = '{memory_limit_bytes}B'")


def _limits(memory_limit_bytes: int | None, spill: str) -> Limits:
    limits: Limits = {"temp_directory": spill}
    if memory_limit_bytes is not None:
        limits["memory_limit"] = f"{memory_limit_bytes}B"
    return limits


def create_table(connection: Connection, table: Table, extra_columns: dict[str, str] | None = None) -> None:
    """Make an empty declared table, its meanings as comments; `extra_columns` gives further names and DuckDB types."""
    name = quoted(table.name)
    more = [f"ALTER TABLE {name} ADD COLUMN {quoted(column)} {kind}" for column, kind in (extra_columns or {}).items()]
    _make(connection, [table.ddl(), *more, *_comments("TABLE", table)])


def add_columns(connection: Connection, table: Table, there: Collection[str]) -> None:
    """Give a table that an older version made the declared columns that it lacks, null in all its rows."""
    name = quoted(table.name)
    later = [column for column in table.columns if column.name not in there]
    added = [f"ALTER TABLE {name} ADD COLUMN {quoted(column.name)} {DUCKDB_TYPES[column.type]}" for column in later]
    _make(connection, [*added, *_comments("TABLE", table)])


def create_view(connection: Connection, table: Table, query: str) -> None:
    """Make a declared view, its meanings as comments."""
    _make(connection, [f"CREATE VIEW {quoted(table.name)} AS {query}", *_comments("VIEW", table)])


def _make(connection: Connection, statements: Sequence[str]) -> None:
    # each on its own would be made durable on its own
    connection.execute(";\n".join(["BEGIN", *statements, "COMMIT"]))


def _comments(kind: str, table: Table) -> Iterator[str]:
    yield f"COMMENT ON {kind} {quoted(table.name)} IS {literal(f'one row per {table.grain}')}"
    for column in table.columns:
        meaning = f"{column.meaning} [{column.unit}]" if column.unit else column.meaning
        yield f"COMMENT ON COLUMN {quoted(table.name)}.{quoted(column.name)} IS {literal(meaning)}"


def view_parts(
    connection: Connection, root: Path, table: Table, parts: Sequence[Part], *, are_checked: bool = False
) -> None:
    """Make the temporary view `part_<table>` over exactly the listed files (an empty one for no file).

    Args:
        connection: the database being built.
        root: the folder to which the paths of parts are relative.
        table: their table.
        parts: the files.
        are_checked: whether their content was compared with their receipts already.

    Raises:
        ArtifactError: a listed part is absent, damaged, altered or foreign.
    """
    for part in () if are_checked else parts:
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


def insert_columns(connection: Connection, table: Table, columns: Mapping[str, Any]) -> None:
    """Append rows, given as an array for each declared column, sorted by the table's key; what is masked is null."""
    schema = table.arrow_schema()
    arrays = [pa.array(columns[field.name], from_pandas=False).cast(field.type) for field in schema]
    insert_rows(connection, table, pa.Table.from_arrays(arrays, schema=schema))


def _escape_pattern(path: str) -> str:
    # read_parquet takes every name for a pattern; a bracketed character stands for itself
    return "".join(f"[{character}]" if character in "*?[" else character for character in path)
