"""Question: how often, how strongly and to what effect does each feature take part?"""

from collections.abc import Callable

import pyarrow as pa

from tracer.aggregate.sql import read_sql
from tracer.tables.building import create_table, insert_rows
from tracer.tables.database import Connection
from tracer.tables.declare import Table
from tracer.tables.neuronpedia_links import NeuronpediaSources, source_url
from tracer.tables.quoting import quoted
from tracer.tables.schema import TABLES

Features = list[tuple[int, int]]
"""(layer, feature) pairs, sorted."""

TAKING_PART = """
SELECT layer, feature FROM state.firings
UNION SELECT layer, feature FROM state.features WHERE by_column = ''
"""


def build_features(
    connection: Connection,
    feature_logits: Callable[[Features], pa.Table],
    sources: NeuronpediaSources | None = None,
    *,
    dense_frequency: float,
) -> None:
    """Make `features` of every feature that fired anywhere, kept by pruning or not.

    Args:
        connection: the results being built, the state attached and `define_measures` done; `remembered_logits` holds
            what is known of features from an earlier build.
        feature_logits: gives the rows of `feature_logits` for sorted (layer, feature) pairs.
        sources: where the features are on Neuronpedia.
        dense_frequency: share of positions above which a feature is dense.
    """
    create_table(connection, TABLES["features"])
    unknown = connection.execute(
        f"SELECT layer, feature FROM ({TAKING_PART}) ANTI JOIN feature_logits USING (layer, feature) ORDER BY ALL"
    ).fetchall()
    if unknown:
        rows = feature_logits([(int(layer), int(feature)) for layer, feature in unknown])
        insert_rows(connection, TABLES["feature_logits"], rows)
    connection.execute(read_sql("frequencies/features"), {"dense_frequency": dense_frequency})
    if sources is not None:
        for (layer,) in connection.execute("SELECT DISTINCT layer FROM features ORDER BY layer").fetchall():
            connection.execute(
                "UPDATE features SET url = ? || '/' || feature WHERE layer = ?", [source_url(sources, layer), layer]
            )


def remember_logits(connection: Connection, *, is_new: bool) -> None:
    """Make the temporary table `feature_logits` of what an earlier build knew, before its `features` goes."""
    table: Table = TABLES["feature_logits"]
    connection.execute(table.ddl().replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    if not is_new:
        columns = ", ".join(map(quoted, table.column_names()))
        connection.execute(f"INSERT INTO feature_logits SELECT {columns} FROM features")
