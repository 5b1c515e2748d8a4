"""Whether two results files hold equal tables, as two runs of the same work must.

Equal means: the same tables, columns and keys; text, integers and truth values equal; floats within `RELATIVE` of the
larger one, or both under `NEGLIGIBLE` of the column's largest (sums that cancel are zero only up to rounding).
Columns declared `volatile` are not compared. Rows near a pruning cut get no allowance: two runs on one machine must
agree on them too.
"""

from collections.abc import Mapping
from pathlib import Path

from tracer.errors import ArtifactError
from tracer.tables.database import Connection, connect
from tracer.tables.declare import Table
from tracer.tables.harvest_tables import HARVEST_TABLES
from tracer.tables.quoting import literal, quoted
from tracer.tables.schema import TABLES

RELATIVE = 1e-5
NEGLIGIBLE = 1e-9

Types = dict[str, str]
"""DuckDB type by column."""


def compare_tables(path_a: Path, path_b: Path) -> list[str]:
    """The differences between two results files, one line for each table and column concerned; empty when they are
    equal.

    Raises:
        ArtifactError: a file is absent or not a results file.
    """
    with connect(path_b):
        pass
    with connect(path_a) as connection:
        connection.execute(f"ATTACH {literal(str(path_b))} AS compared (READ_ONLY)")
        known = HARVEST_TABLES if "harvests" in _tables(connection, "current_database()") else TABLES
        names = _tables(connection, "current_database()"), _tables(connection, "'compared'")
        differences = [f"{name}: only in one file" for name in sorted(names[0] ^ names[1])]
        for name in sorted(names[0] & names[1]):
            differences += _compare_table(connection, name, known)
        return differences


def _tables(connection: Connection, database: str) -> set[str]:
    rows = connection.execute(f"SELECT table_name FROM duckdb_tables() WHERE database_name = {database}").fetchall()
    return {name for (name,) in rows}


def _columns(connection: Connection, name: str, database: str) -> Types:
    rows = connection.execute(
        f"SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = ? AND database_name = {database}",
        [name],
    ).fetchall()
    return dict(rows)


def _compare_table(connection: Connection, name: str, known: Mapping[str, Table]) -> list[str]:
    types, other = _columns(connection, name, "current_database()"), _columns(connection, name, "'compared'")
    if types != other:
        return [f"{name}: columns {sorted(types.items() ^ other.items())} differ"]
    if name not in known:
        raise ArtifactError(
            name, found="an undeclared table", expected="tables of a run", to_do="Compare two results files."
        )
    table = known[name]
    volatile = set(table.column_names()) - set(table.stable_columns())
    stable = {column: duckdb_type for column, duckdb_type in types.items() if column not in volatile}
    _number_rows(connection, name, table.key, stable)
    differences = _compare_keys(connection, name, table.key)
    for column, duckdb_type in stable.items():
        if column not in table.key:
            differences += _compare_column(connection, name, table.key, column, duckdb_type)
    return differences


def _number_rows(connection: Connection, name: str, key: tuple[str, ...], stable: Types) -> None:
    # a key that occurs twice would pair every row with every other: `__copy` keeps them apart
    by = ", ".join(quoted(column) for column in key)
    exact = [quoted(column) for column, duckdb_type in stable.items() if "DOUBLE" not in duckdb_type]
    columns = ", ".join(quoted(column) for column in stable)
    for copy_name, source in (("a", ""), ("b", "compared.main.")):
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {copy_name} AS SELECT {columns}, "
            f"row_number() OVER (PARTITION BY {by} ORDER BY {', '.join(exact)}) AS __copy FROM {source}{quoted(name)}"
        )


def _compare_keys(connection: Connection, name: str, key: tuple[str, ...]) -> list[str]:
    columns = ", ".join([*(quoted(column) for column in key), "__copy"])
    lines = []
    for mine, yours, word in (("a", "b", "first"), ("b", "a", "second")):
        sql = f"SELECT {columns} FROM {mine} EXCEPT SELECT {columns} FROM {yours} ORDER BY ALL"
        rows = connection.execute(sql).fetchmany(1)
        if rows:
            n = connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()[0][0]
            lines.append(f"{name}: {n} keys only in the {word} file, such as {rows[0][:-1]}")
    return lines


def _compare_column(
    connection: Connection, name: str, key: tuple[str, ...], column: str, duckdb_type: str
) -> list[str]:
    value = quoted(column)
    same_key = " AND ".join(f"a.{part} IS NOT DISTINCT FROM b.{part}" for part in [*map(quoted, key), "__copy"])
    shown = ", ".join(f"a.{quoted(part)}" for part in key)
    if duckdb_type == "DOUBLE[]":
        pairs, differ_in = f"list_zip(a.{value}, b.{value})", _floats_differ("pair[1]", "pair[2]", "0")
        differ = (
            f"len(a.{value}) IS DISTINCT FROM len(b.{value}) OR len(list_filter({pairs}, lambda pair: {differ_in})) > 0"
        )
    elif duckdb_type == "DOUBLE":
        largest = f"(SELECT max(abs({value})) FROM a WHERE isfinite({value}))"
        differ = _floats_differ(f"a.{value}", f"b.{value}", f"coalesce({largest}, 0)")
    else:
        differ = f"a.{value} IS DISTINCT FROM b.{value}"
    sql = f"SELECT {shown}, a.{value}, b.{value} FROM a JOIN b ON {same_key} WHERE {differ} ORDER BY ALL"
    rows = connection.execute(sql).fetchmany(1)
    if not rows:
        return []
    n = connection.execute(f"SELECT count(*) FROM ({sql})").fetchall()[0][0]
    *place, one, other = rows[0]
    return [f"{name}.{column}: {n} rows differ, such as {tuple(place)}: {one!r} and {other!r}"]


def _floats_differ(one: str, other: str, largest: str) -> str:
    allowed = f"{RELATIVE} * greatest(abs({one}), abs({other})) + {NEGLIGIBLE} * {largest}"
    both_finite = f"(isfinite({one}) AND isfinite({other}))"
    return (
        f"CASE WHEN {one} IS NULL OR {other} IS NULL THEN {one} IS DISTINCT FROM {other} "
        f"WHEN {both_finite} THEN abs({one} - {other}) > {allowed} ELSE {one} IS DISTINCT FROM {other} END"
    )
