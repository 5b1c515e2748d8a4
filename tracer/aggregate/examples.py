"""Question: which windows of the run's prompts show a feature best?"""

from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection, create_table
from tracer.tables.schema import TABLES

NAN_FAILURE = """
INSERT INTO failures (stage, item_id, error_class, message)
SELECT 'aggregate', 'examples', 'NotANumber', count(*) || ' windows whose activation is not a number were left out'
FROM part_examples WHERE isnan(activation) HAVING count(*) > 0
"""


def merge_examples(connection: Connection, *, n_examples: int) -> None:
    """Make `examples`: each shard's best windows merged are the best of all, since each shard kept as many.

    Windows whose activation is NaN are left out (NaN sorts highest) and counted in a row of `failures`.
    """
    create_table(connection, TABLES["examples"])
    connection.execute(read_sql("examples"), {"n_examples": n_examples})
    connection.execute(NAN_FAILURE)
