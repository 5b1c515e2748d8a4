"""Merges that need no thought of their own: rows put one after another, and counts added up by key."""

from tracer.errors import ArtifactError
from tracer.tables.database import Connection, create_table, quoted
from tracer.tables.declare import Table

CHECKED_FOR_DOUBLES = ("graphs",)
"""Tables whose key is checked after concatenation; the others hang on them by graph."""


def concatenate(connection: Connection, table: Table) -> None:
    """Make the table from every part's rows, sorted by key.

    Raises:
        ArtifactError: two shards hold the same graph.
    """
    create_table(connection, table)
    order = ", ".join(quoted(name) for name in table.key)
    connection.execute(
        f"INSERT INTO {quoted(table.name)} SELECT * FROM {quoted(f'part_{table.name}')} ORDER BY {order}"
    )
    if table.name in CHECKED_FOR_DOUBLES:
        refuse_doubles(connection, table)


def merge_counts(connection: Connection, table: Table) -> None:
    """Make the table by adding up, for each key, the integer columns of every part; its text columns follow from the
    key.
    """
    create_table(connection, table)
    key = ", ".join(quoted(name) for name in table.key)
    merged = [column for column in table.columns if column.name not in table.key]
    assert all(column.type in ("int", "text") for column in merged), "only counts and names merge this way"
    values = ", ".join(f"{'sum' if column.type == 'int' else 'min'}({quoted(column.name)})" for column in merged)
    names = ", ".join([key, *(quoted(column.name) for column in merged)])
    connection.execute(
        f"INSERT INTO {quoted(table.name)} ({names}) "
        f"SELECT {key}, {values} FROM {quoted(f'part_{table.name}')} GROUP BY {key} ORDER BY {key}"
    )


def refuse_doubles(connection: Connection, table: Table) -> None:
    """Check that no key occurs twice.

    Raises:
        ArtifactError: one does, which means that a shard was committed twice.
    """
    key = ", ".join(quoted(name) for name in table.key)
    sql = f"SELECT {key} FROM {quoted(table.name)} GROUP BY {key} HAVING count(*) > 1 ORDER BY {key} LIMIT 1"
    double = connection.execute(sql).fetchone()
    if double is not None:
        found = f"{', '.join(table.key)} = {', '.join(map(str, double))} more than once"
        to_do = "Two receipts commit the same prompts; run again in a new folder."
        raise ArtifactError(f"parts of `{table.name}`", found=found, expected="every key once", to_do=to_do)
