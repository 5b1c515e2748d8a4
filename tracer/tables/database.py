"""The results file: opened read-only, checked to be one of ours, and asked."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from tracer.errors import ArtifactError, DataError
from tracer.tables.schema import SCHEMA_VERSION

Connection = duckdb.DuckDBPyConnection
"""What `connect` and `build_database` give: `execute(sql, parameters)` and its `fetchall`, `fetchnumpy`,
`to_arrow_table`.
"""
Parameters = Sequence[Any] | Mapping[str, Any] | None


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
        harvests = connection.execute("FROM duckdb_tables() WHERE table_name = 'harvests'").fetchall()
        table = "harvests" if harvests else "runs"
        versions = connection.execute(f"SELECT schema_version FROM {table}").fetchall()
    except duckdb.Error as error:
        raise ArtifactError(
            str(path), found=_one_line(error), expected="tables of a tracer run or harvest", to_do="Check the path."
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
        return ask(connection, sql)


def ask(connection: Connection, sql: str, parameters: Parameters = None) -> pl.DataFrame:
    """Answer one SQL query over an open results file; names of columns as `query` gives them.

    Args:
        connection: to a results file.
        sql: the query.
        parameters: what stands for its `?`, in order, or for its `$name`, by name.

    Raises:
        DataError: the query is wrong, in DuckDB's words, or a column is of a type that a data frame does not have.
    """
    try:
        answer = connection.sql(sql, params=parameters)
        rows = pa.table({}) if answer is None else answer.to_arrow_table()
    except duckdb.Error as error:
        to_do = "`tracer tables` lists the tables and their columns."
        raise DataError("query", found=str(error), expected="SQL over the tables", to_do=to_do) from error
    return _as_frame(rows.rename_columns(_distinct(rows.column_names)))


def rows_of(path: Path, sql: str) -> list[tuple]:
    """The rows of a query over any database file, results or not.

    Raises:
        ArtifactError: absent, not a database, or without what is asked for.
    """
    if not path.is_file():
        raise ArtifactError(str(path), found="no such file", expected="a database", to_do="Aggregate the run.")
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute(sql).fetchall()
    except duckdb.Error as error:
        to_do = "Move it away and aggregate the run again."
        raise ArtifactError(str(path), found=_one_line(error), expected="a database", to_do=to_do) from error


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


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
