"""The table `cooccurrence`: pairs of features that share graphs, counted (`pairs`) and judged (`significance`)."""

import numpy as np
import pyarrow as pa

from tracer.aggregate.hypergraph.chances import support_in_strata
from tracer.aggregate.hypergraph.pairs import count_pairs
from tracer.aggregate.hypergraph.significance import pair_measures
from tracer.aggregate.incidence import Incidence, Ints
from tracer.tables.database import Connection, create_table, insert_rows, quoted
from tracer.tables.schema import TABLES


def build_cooccurrence(connection: Connection, *, min_support: int, stratum: str | None) -> None:
    """Make `cooccurrence`.

    Args:
        connection: the results file being built, with the tables of the graphs in it.
        min_support: fewest graphs over the whole run that a listed pair shares.
        stratum: column of `prompts` within whose values the second null is taken; None for the first alone.
    """
    create_table(connection, TABLES["cooccurrence"])
    features, incidence = _read_incidence(connection, stratum)
    pairs = count_pairs(incidence, min_support)
    columns = pair_measures(
        pairs,
        support=incidence.support,
        length=incidence.length,
        min_support=min_support,
        stratum=incidence.stratum,
        stratum_support=None if incidence.stratum is None else support_in_strata(incidence),
    )
    ends = {
        "layer_a": features[pairs.first, 0],
        "feature_a": features[pairs.first, 1],
        "layer_b": features[pairs.second, 0],
        "feature_b": features[pairs.second, 1],
    }
    schema = TABLES["cooccurrence"].arrow_schema()
    arrays = [pa.array((ends | columns)[field.name]).cast(field.type) for field in schema]
    insert_rows(connection, TABLES["cooccurrence"], pa.Table.from_arrays(arrays, schema=schema))


def _read_incidence(connection: Connection, stratum: str | None) -> tuple[Ints, Incidence]:
    """Features [n_features, 2] sorted, and the incidence [n_graphs, n_features]."""
    sql = "SELECT layer, feature FROM nodes WHERE kind = 'feature' GROUP BY ALL ORDER BY layer, feature"
    features = connection.execute(sql).fetchnumpy()
    held = connection.execute(
        """
        WITH graph AS (SELECT graph_id, row_number() OVER (ORDER BY graph_id) - 1 AS graph_idx FROM graphs),
        feature AS (
            SELECT layer, feature, row_number() OVER (ORDER BY layer, feature) - 1 AS feature_idx
            FROM (SELECT DISTINCT layer, feature FROM nodes WHERE kind = 'feature')
        )
        SELECT DISTINCT graph_idx, feature_idx
        FROM nodes JOIN graph USING (graph_id) JOIN feature USING (layer, feature) WHERE kind = 'feature'
        """
    ).fetchnumpy()
    column = f"prompts.{quoted(stratum)}" if stratum else "0"
    strata = connection.execute(
        f"SELECT dense_rank() OVER (ORDER BY {column} NULLS FIRST) AS stratum "
        "FROM graphs JOIN prompts USING (prompt_id) ORDER BY graph_id"
    ).fetchnumpy()["stratum"]
    places = np.column_stack([features["layer"], features["feature"]]).astype(np.int64)
    shape = (len(strata), len(places))
    numbers = strata.astype(np.int64) if stratum else None
    return places, Incidence.of(held["graph_idx"], held["feature_idx"], shape, numbers)
