"""Merges that need no thought of their own: rows put one after another, and counts added up by key."""

from tracer.errors import ArtifactError
from tracer.tables.building import create_table
from tracer.tables.database import Connection
from tracer.tables.declare import Table
from tracer.tables.quoting import quoted

CHECKED_FOR_DOUBLES = ("graphs",)
"""Tables whose key is checked after concatenation; the others hang on them by graph."""


def concatenate(connection: Connection, table: Table) -> None:
    """Put the parts' rows behind those that the table has, in the order of the shards.

    Raises:
        ArtifactError: two shards hold the same graph.
    """
    connection.execute(f"INSERT INTO {quoted(table.name)} SELECT * FROM {quoted(f'part_{table.name}')}")
    if table.name in CHECKED_FOR_DOUBLES:
        refuse_doubles(connection, table)


def merge_counts(connection: Connection, table: Table) -> None:
    """Add, for each key, the integer columns of every part to those that the table has; its text columns follow from
    the key.
    """
    key = ", ".join(quoted(name) for name in table.key)
    merged = [column for column in table.columns if column.name not in table.key]
    assert all(column.type in ("int", "text") for column in merged), "only counts and names merge this way"
    values = ", ".join(f"{'sum' if column.type == 'int' else 'min'}({quoted(column.name)})" for column in merged)
    names = ", ".join([key, *(quoted(column.name) for column in merged)])
    replaced(
        connection,
        table,
        f"SELECT {key}, {values} FROM (SELECT {names} FROM {{old}} UNION ALL SELECT {names} FROM {{new}}) "
        f"GROUP BY {key}",
    )


def replaced(connection: Connection, table: Table, query: str) -> None:
    """Make the table anew, sorted by its key.

    Args:
        connection: the results being built.
        table: has its columns in the order of the query's.
        query: of the rows that it has, `{old}`, and of the parts' rows, `{new}`.
    """
    old, new, name = f"old_{table.name}", f"part_{table.name}", quoted(table.name)
    connection.execute(f"ALTER TABLE {name} RENAME TO {quoted(old)}")
    create_table(connection, table)
    order = ", ".join(quoted(column) for column in table.key)
    rows = query.format(old=quoted(old), new=quoted(new))
    connection.execute(f"INSERT INTO {name} SELECT * FROM ({rows}) ORDER BY {order}")
    connection.execute(f"DROP TABLE {quoted(old)}")


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
