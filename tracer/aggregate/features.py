"""Question: how often, how strongly and to what effect does each feature take part?"""

from collections.abc import Callable

import pyarrow as pa

from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection, create_table, insert_rows
from tracer.tables.declare import Table
from tracer.tables.schema import TABLES

FIRED = """
SELECT layer, feature FROM part_feature_counts
UNION SELECT layer, feature FROM nodes WHERE kind = 'feature'
ORDER BY layer, feature
"""


def build_features(connection: Connection, feature_logits: Callable[[list[tuple[int, int]]], pa.Table]) -> None:
    """Make `features` of every feature that fired anywhere, kept by pruning or not.

    Args:
        connection: the results file being built, with the tables of the graphs in it.
        feature_logits: gives the rows of `feature_logits` for sorted (layer, feature) pairs.
    """
    create_table(connection, TABLES["features"])
    logits: Table = TABLES["feature_logits"]
    connection.execute(logits.ddl().replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    fired = [(int(layer), int(feature)) for layer, feature in connection.execute(FIRED).fetchall()]
    if fired:
        insert_rows(connection, logits, feature_logits(fired))
    connection.execute(read_sql("features"))
