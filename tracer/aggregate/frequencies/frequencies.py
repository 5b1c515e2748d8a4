"""Question: what recurs, how often and how strongly, over the run and for each value of the metadata asked for?"""

from tracer.aggregate.ends import define_ends
from tracer.aggregate.frequencies.recurring_edges import list_recurring_edges
from tracer.aggregate.sql import read_sql
from tracer.tables.building import create_table
from tracer.tables.database import Connection
from tracer.tables.declare import Table
from tracer.tables.quoting import quoted
from tracer.tables.schema import TABLES

_MACROS = (
    # squares that exceed what the mean explains by rounding alone have no spread
    """CREATE OR REPLACE TEMP MACRO sample_sd(n, total, squares) AS CASE WHEN n > 1 THEN
        CASE WHEN squares - total * total / n > 1e-10 * squares
            THEN sqrt((squares - total * total / n) / (n - 1)) ELSE 0 END END""",
    """CREATE OR REPLACE TEMP MACRO component_name(kind, layer, head) AS
        CASE WHEN kind = 'mlp' THEN 'MLP' || layer ELSE 'L' || layer || 'H' || head END""",
    # the whole run is counted even where it has no graph
    """CREATE OR REPLACE TEMP VIEW graph_counts AS
        SELECT by_column, by_value, sum(n_graphs)::BIGINT AS n_graphs
        FROM (SELECT * FROM state.lengths UNION ALL SELECT '', '', 0, 0) GROUP BY by_column, by_value""",
)
_MEASURES = ("frequencies/edge_measures", "frequencies/component_measures", "frequencies/error_measures")


def build_frequencies(connection: Connection, *, min_support: int, n_layers: int) -> None:
    """Make the tables of frequencies, but for `features`.

    `edge_stats` and `edge_frequency` hold edges that at least `min_support` graphs (of the value) keep. Error nodes are
    no ends of theirs, nor are logits that are directions: neither has an identity beyond its graph.

    Args:
        connection: the results being built, the state attached and `define_measures` done.
        min_support: fewest graphs that must keep an edge.
        n_layers: layers of the model; each has its row in `components`, kept features or not.
    """
    connection.execute(f"SET VARIABLE n_layers = {n_layers}")
    n_known = list_recurring_edges(connection, min_support)
    connection.execute(read_sql("frequencies/edge_counts"), {"n_known": n_known})
    for name in _MEASURES:
        connection.execute(read_sql(name))
    for name in ("feature_frequency", "component_features"):
        create_table(connection, TABLES[name])
        connection.execute(read_sql(f"frequencies/{name}"))
    _split(connection, "edge_measures", "edge_stats", "edge_frequency", f"support >= {min_support}")
    _split(connection, "component_measures", "components", "component_frequency", "true")
    _split(connection, "error_measures", "errors", "error_frequency", "true")
    connection.execute("DROP VIEW edge_measures")
    for name in ("edge_counts", "recurring_edges"):
        connection.execute(f"DROP TABLE {name}")


def define_measures(connection: Connection) -> None:
    """Define what the queries of this folder have in common."""
    define_ends(connection)
    for macro in _MACROS:
        connection.execute(macro)


def _split(connection: Connection, measures: str, overall: str, by_value: str, condition: str) -> None:
    """Fill the table of the whole run and the one by value from the same measures."""
    for name, which in ((overall, "by_column = ''"), (by_value, "by_column <> ''")):
        table: Table = TABLES[name]
        create_table(connection, table)
        columns = ", ".join(map(quoted, table.column_names()))
        order = ", ".join(map(quoted, table.key))
        connection.execute(
            f"INSERT INTO {quoted(name)} SELECT {columns} FROM {measures} "
            f"WHERE {which} AND {condition} ORDER BY {order}"
        )
