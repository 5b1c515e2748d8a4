"""Rows of the circuit tables, gathered from all kinds of circuits before they are sorted into the results."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tracer.tables.building import create_table
from tracer.tables.database import Connection
from tracer.tables.quoting import quoted
from tracer.tables.schema import TABLES

STAGED = ("circuits", "circuit_members", "circuit_graphs", "circuit_edges")


def open_stage(connection: Connection) -> None:
    """Make an empty temporary `staged_<table>` for each table."""
    for name in STAGED:
        ddl = TABLES[name].ddl(f"staged_{name}")
        connection.execute(ddl.replace("CREATE TABLE", "CREATE OR REPLACE TEMP TABLE", 1))


def stage(connection: Connection, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to a staged table; a column that a row lacks is null."""
    if not rows:
        return
    schema = TABLES[name].arrow_schema()
    columns = {column: [row.get(column) for row in rows] for column in schema.names}
    stage_columns(connection, name, columns)


def stage_columns(connection: Connection, name: str, columns: Mapping[str, Any]) -> None:
    """Add rows, given as one array or list for each declared column."""
    schema = TABLES[name].arrow_schema()
    arrays = [pa.array(columns[field.name], type=field.type) for field in schema]
    connection.register("rows_to_stage", pa.Table.from_arrays(arrays, schema=schema))
    connection.execute(f"INSERT INTO {quoted(f'staged_{name}')} SELECT * FROM rows_to_stage")
    connection.unregister("rows_to_stage")


def close_stage(connection: Connection) -> None:
    """Make the tables from what was staged, sorted by key, and drop the stage. `n_members` is counted here."""
    connection.execute(
        "UPDATE staged_circuits SET n_members = "
        "(SELECT count(*) FROM staged_circuit_members WHERE circuit_id = staged_circuits.circuit_id)"
    )
    for name in STAGED:
        table, staged = TABLES[name], quoted(f"staged_{name}")
        create_table(connection, table)
        order = ", ".join(map(quoted, table.key))
        connection.execute(f"INSERT INTO {quoted(name)} SELECT * FROM {staged} ORDER BY {order}")
        connection.execute(f"DROP TABLE {staged}")
