"""Question: which features and tokens act on which features and logits again and again, and how consistently?"""

from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection, create_table
from tracer.tables.schema import TABLES


def build_edge_stats(connection: Connection, *, min_support: int) -> None:
    """Make `edge_stats`; a graph counts once per pair, its weight being the sum over positions.

    Error nodes are left out, and so are logits that are directions: neither has an identity beyond its graph.

    Args:
        connection: the results file being built, with the tables of the graphs in it.
        min_support: fewest graphs over the whole run that must keep the edge.
    """
    create_table(connection, TABLES["edge_stats"])
    connection.execute(read_sql("edge_stats"), {"min_support": min_support})
