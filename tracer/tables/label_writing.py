"""How labels are written into a results file: many for one feature, of which one is current."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.tables.building import add_columns, create_table, create_view, insert_rows
from tracer.tables.database import Connection, connect
from tracer.tables.label_tables import LABEL_TABLES, LABELS
from tracer.tables.quoting import quoted
from tracer.tables.schema import TABLES

CURRENT = """
UPDATE all_labels SET is_current = label_id IN (
    SELECT label_id FROM all_labels
    QUALIFY row_number() OVER (
        PARTITION BY target_kind, target_id
        ORDER BY method = 'person' DESC, starts_with(method, 'rule'), method = 'llm_deep' DESC,
            created_at DESC NULLS LAST, confidence DESC NULLS LAST, method, label_id
    ) = 1
)
"""
"""A person's label before all others, a rule's after all others; else one settled from drafts, else the latest."""
CURRENT_LABELS = "SELECT * FROM all_labels WHERE is_current ORDER BY target_kind, layer, feature, target_id"


def create_label_tables(connection: Connection) -> None:
    """Make the tables about labels, empty, and the view of current ones; those of an older results file give way."""
    there = dict(
        connection.execute(
            "SELECT table_name, table_type FROM information_schema.tables WHERE table_catalog = current_database()"
        ).fetchall()
    )
    for table in sorted(LABEL_TABLES, key=lambda table: table is not LABELS):
        if table.name in there:
            connection.execute(f"DROP {'VIEW' if there[table.name] == 'VIEW' else 'TABLE'} {quoted(table.name)}")
    for table in LABEL_TABLES:
        if table is not LABELS:
            create_table(connection, table)
    create_view(connection, LABELS, CURRENT_LABELS)


@contextmanager
def changed_labels(path: Path) -> Iterator[Connection]:
    """A results file open for changes of its labels, in one transaction; which labels are current is settled at its
    end. Tables and columns that the file lacks, since an older version made it, are added.

    Raises:
        ArtifactError: as `connect`.
    """
    with connect(path, read_only=False) as connection:
        if not _are_there(connection):
            create_label_tables(connection)
        _add_later_columns(connection)
        connection.execute("BEGIN")
        yield connection
        connection.execute(CURRENT)
        connection.execute("UPDATE runs SET n_failures = (SELECT count(*) FROM failures)")
        connection.execute("COMMIT")
        connection.execute("CHECKPOINT")


def _are_there(connection: Connection) -> bool:
    sql = "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND table_name = 'all_labels'"
    return bool(connection.execute(sql).fetchall()[0][0])


def _add_later_columns(connection: Connection) -> None:
    sql = "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = current_database()"
    there = set(connection.execute(sql).fetchall())
    lacking = [table for table in LABEL_TABLES if any((table.name, name) not in there for name in table.column_names())]
    for table in lacking:
        if table is not LABELS:
            add_columns(connection, table, {name for of_table, name in there if of_table == table.name})
    if lacking:
        connection.execute(f"DROP VIEW {quoted(LABELS.name)}")
        create_view(connection, LABELS, CURRENT_LABELS)


def put_rows(connection: Connection, name: str, rows: pa.Table) -> None:
    """Add rows to a table; rows that have the same key give way.

    Raises:
        ArtifactError: as `insert_rows`.
    """
    table = TABLES[name]
    connection.register("rows_to_put", rows)
    same = " AND ".join(f"old.{quoted(key)} IS NOT DISTINCT FROM new.{quoted(key)}" for key in table.key)
    connection.execute(f"DELETE FROM {quoted(name)} AS old USING rows_to_put AS new WHERE {same}")
    connection.unregister("rows_to_put")
    insert_rows(connection, table, rows)


def write_labels(path: Path, method: str, labels: pa.Table, failures: pa.Table) -> None:
    """Replace the labels of `method` and its failures (whose item ids begin with its name).

    Raises:
        ArtifactError: as `connect` and `insert_rows`.
    """
    with changed_labels(path) as connection:
        connection.execute("DELETE FROM all_labels WHERE method = ?", [method])
        connection.execute("DELETE FROM failures WHERE stage = 'label' AND starts_with(item_id, ? || ' ')", [method])
        insert_rows(connection, TABLES["all_labels"], labels)
        insert_rows(connection, TABLES["failures"], failures)


def as_rows(name: str, records: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Records as rows of a declared table; a column that a record lacks is null."""
    return pa.Table.from_pylist([dict(record) for record in records], schema=TABLES[name].arrow_schema())
