"""Question: which windows of the run's prompts show a feature best?"""

from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection, create_table
from tracer.tables.schema import TABLES


def merge_examples(connection: Connection, *, n_examples: int) -> None:
    """Make `examples`: each shard's best windows merged are the best of all, since each shard kept as many.

    Harvesting keeps none whose activation is NaN; were there one in a part, it is left out, since NaN sorts highest.
    """
    create_table(connection, TABLES["examples"])
    connection.execute(read_sql("examples"), {"n_examples": n_examples})
