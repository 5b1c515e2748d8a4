"""Question: which layers' MLPs carry the graphs, and where does reconstruction error stand in for them?"""

from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection, create_table
from tracer.tables.schema import TABLES


def build_components(connection: Connection, *, n_layers: int) -> None:
    """Make `components`: one row per layer of the model, kept features or not."""
    create_table(connection, TABLES["components"])
    connection.execute(read_sql("components"), {"n_layers": n_layers})
