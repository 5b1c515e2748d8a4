"""What circuits and motifs are made from, filled by plain SQL from prompts, graphs, nodes and edges."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from tracer.aggregate.hypergraph.pairs import Pairs
from tracer.aggregate.hypergraph.significance import pair_measures
from tracer.tables.building import create_table, insert_columns
from tracer.tables.database import Connection
from tracer.tables.frequency_tables import EDGE_KEY
from tracer.tables.quoting import literal, quoted
from tracer.tables.schema import TABLES

KEY = ", ".join(EDGE_KEY)
IN_GRAPH = """
CREATE OR REPLACE TEMP TABLE derived_edges AS
WITH ends AS (
    SELECT graph_id, node_idx, kind, coalesce(layer, -1) AS layer, coalesce(feature, token_id) AS idx, token
    FROM nodes WHERE kind <> 'error'
)
SELECT graph_id, s.kind AS source_kind, s.layer AS source_layer, s.idx AS source_feature,
    t.kind AS target_kind, t.layer AS target_layer, t.idx AS target_feature,
    min(CASE WHEN s.kind = 'token' THEN s.token END) AS source_token,
    min(CASE WHEN t.kind = 'logit' THEN t.token END) AS target_token,
    fsum(weight) AS weight, fsum(edge_score) AS score
FROM edges JOIN ends AS s USING (graph_id) JOIN ends AS t USING (graph_id)
WHERE s.node_idx = edges.source_idx AND t.node_idx = edges.target_idx
GROUP BY ALL
"""
MEASURES = """min(source_token) AS source_token, min(target_token) AS target_token, count(*) AS support,
    count(*) / any_value(n_graphs) AS frequency, fsum(weight) / count(*) AS weight_mean,
    stddev_samp(weight) AS weight_sd,
    greatest(count(*) FILTER (weight > 0), count(*) FILTER (weight < 0)) / count(*) AS sign_agreement,
    fsum(score) AS edge_score_sum"""


def derive(connection: Connection, by: Sequence[str], min_support: int) -> None:
    """Make the tables that circuits and motifs are made from, and the incidence, tokens and logits of the state."""
    _incidence(connection)
    connection.execute(IN_GRAPH)
    columns = [
        f"SELECT graph_id, {literal(name)} AS by_column, CAST(prompts.{quoted(name)} AS VARCHAR) AS by_value "
        f"FROM graphs JOIN prompts USING (prompt_id) WHERE prompts.{quoted(name)} IS NOT NULL"
        for name in by
    ]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE derived_values AS {' UNION ALL '.join(columns)}")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE derived_sizes AS "
        "SELECT by_column, by_value, count(*) AS n_graphs FROM derived_values GROUP BY ALL"
    )
    for name in ("edge_stats", "edge_frequency", "feature_frequency", "cooccurrence"):
        create_table(connection, TABLES[name])
    _vocabulary(connection)
    _edges(connection, min_support)
    connection.execute(
        """
        INSERT INTO feature_frequency BY NAME
        WITH held AS (
            SELECT graph_id, layer, feature, count(*) AS n, fsum(influence) AS influence
            FROM nodes WHERE kind = 'feature' GROUP BY ALL
        )
        SELECT by_column, by_value, layer, feature, count(*) AS support, any_value(n_graphs) AS n_graphs,
            count(*) / any_value(n_graphs) AS frequency, count(*) = any_value(n_graphs) AS is_always_on,
            sum(n) AS n_nodes, fsum(influence) AS influence_sum, fsum(influence) / count(*) AS influence_mean,
            stddev_samp(influence) AS influence_sd
        FROM held JOIN derived_values USING (graph_id) JOIN derived_sizes USING (by_column, by_value)
        GROUP BY by_column, by_value, layer, feature
        """
    )
    _pairs(connection, min_support)
    for name in ("derived_edges", "derived_values", "derived_sizes"):
        connection.execute(f"DROP TABLE {name}")


def _incidence(connection: Connection) -> None:
    """What the state lists, and the columns of `features` that follow from it."""
    connection.execute("ATTACH IF NOT EXISTS ':memory:' AS state")
    connection.execute(
        "CREATE OR REPLACE TABLE state.graph_numbers AS "
        "SELECT graph_id, (row_number() OVER (ORDER BY graph_id) - 1)::INTEGER AS graph_idx FROM graphs"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE state.incidence AS SELECT graph_idx, layer, feature, pos, influence "
        "FROM nodes JOIN state.graph_numbers USING (graph_id) WHERE kind = 'feature' ORDER BY ALL"
    )
    create_table(connection, TABLES["features"])
    connection.execute(
        "INSERT INTO features BY NAME SELECT layer, feature, count(DISTINCT graph_idx) AS support, "
        "count(DISTINCT graph_idx) / (SELECT count(*) FROM graphs) AS graph_frequency, "
        "fsum(influence) / count(DISTINCT graph_idx) AS influence_mean FROM state.incidence GROUP BY layer, feature"
    )


def _vocabulary(connection: Connection) -> None:
    """Tokens and logits of each value's graphs, and their texts."""
    connection.execute(
        "CREATE OR REPLACE TABLE state.vocabulary AS SELECT by_column, by_value, kind, token_id, "
        "count(DISTINCT graph_id) AS support, fsum(influence) AS influence_sum "
        "FROM nodes JOIN derived_values USING (graph_id) WHERE kind IN ('token', 'logit') GROUP BY ALL"
    )
    connection.execute(
        "CREATE OR REPLACE TABLE state.tokens AS SELECT token_id, min(token) AS token FROM nodes "
        "WHERE kind IN ('token', 'logit') GROUP BY token_id"
    )


def _edges(connection: Connection, min_support: int) -> None:
    connection.execute(
        f"INSERT INTO edge_stats BY NAME SELECT {KEY}, {MEASURES} "
        f"FROM derived_edges CROSS JOIN (SELECT count(*) AS n_graphs FROM graphs) "
        f"GROUP BY {KEY} HAVING count(*) >= {min_support}"
    )
    connection.execute(
        f"INSERT INTO edge_frequency BY NAME "
        f"SELECT by_column, by_value, {KEY}, any_value(n_graphs) AS n_graphs, {MEASURES} "
        f"FROM derived_edges JOIN derived_values USING (graph_id) JOIN derived_sizes USING (by_column, by_value) "
        f"GROUP BY by_column, by_value, {KEY} HAVING count(*) >= {min_support}"
    )


def _pairs(connection: Connection, min_support: int) -> None:
    held = connection.execute("SELECT DISTINCT graph_id, layer, feature FROM nodes WHERE kind = 'feature'").fetchnumpy()
    if len(held["layer"]) == 0:
        return
    (n_graphs,) = connection.execute("SELECT count(*) FROM graphs").fetchall()[0]
    _, row = np.unique(held["graph_id"].astype(str), return_inverse=True)
    places = np.column_stack([held["layer"], held["feature"]]).astype(np.int64)
    features, column = np.unique(places, axis=0, return_inverse=True)
    matrix = sparse.csr_array((np.ones(len(row), np.int64), (row, column.ravel())), shape=(n_graphs, len(features)))
    shared = (matrix.T @ matrix).toarray()
    first, second = np.nonzero(np.triu(shared >= min_support, 1))
    pairs = Pairs(first=first, second=second, support=shared[first, second])
    support, length = (np.asarray(matrix.sum(axis=axis)).ravel() for axis in (0, 1))
    measures = pair_measures(pairs, support=support, length=length, min_support=min_support)
    ends = {
        f"{name}_{end}": features[place, at]
        for end, place in (("a", pairs.first), ("b", pairs.second))
        for at, name in enumerate(("layer", "feature"))
    }
    insert_columns(connection, TABLES["cooccurrence"], ends | measures)
