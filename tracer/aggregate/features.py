"""Question: how often, how strongly and to what effect does each feature take part?"""

from collections.abc import Callable

import pyarrow as pa

from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection, create_table, insert_rows
from tracer.tables.declare import Table
from tracer.tables.neuronpedia_links import NeuronpediaSources, source_url
from tracer.tables.schema import TABLES

FIRED = """
SELECT layer, feature FROM part_feature_counts
UNION SELECT layer, feature FROM nodes WHERE kind = 'feature'
ORDER BY layer, feature
"""


def build_features(
    connection: Connection,
    feature_logits: Callable[[list[tuple[int, int]]], pa.Table],
    sources: NeuronpediaSources | None = None,
) -> None:
    """Make `features` of every feature that fired anywhere, kept by pruning or not.

    Args:
        connection: the results file being built, with the tables of the graphs in it.
        feature_logits: gives the rows of `feature_logits` for sorted (layer, feature) pairs.
        sources: where the features are on Neuronpedia.
    """
    create_table(connection, TABLES["features"])
    logits: Table = TABLES["feature_logits"]
    connection.execute(logits.ddl().replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    fired = [(int(layer), int(feature)) for layer, feature in connection.execute(FIRED).fetchall()]
    if fired:
        insert_rows(connection, logits, feature_logits(fired))
    connection.execute(read_sql("features"))
    if sources is not None:
        for layer in sorted({layer for layer, _ in fired}):
            connection.execute(
                "UPDATE features SET url = ? || '/' || feature WHERE layer = ?", [source_url(sources, layer), layer]
            )
