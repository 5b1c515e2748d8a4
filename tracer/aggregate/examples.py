"""Question: which windows of the run's prompts show a feature best?"""

from tracer.aggregate.merge import replaced
from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES


def merge_examples(connection: Connection, *, n_examples: int) -> None:
    """Bring `examples` up to date: each shard's best windows merged are the best of all, since each kept as many.

    Harvesting keeps none whose activation is NaN; were there one in a part, it is left out, since NaN sorts highest.
    """
    replaced(connection, TABLES["examples"], read_sql("examples").replace("$n_examples", str(n_examples)))
