"""What the graphs of two sides hold: features, or edges, read from one run or two and numbered alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from tracer.aggregate.comparing.choosing import Chosen
from tracer.aggregate.ends import define_ends
from tracer.aggregate.incidence import Incidence
from tracer.tables.database import Connection

ENDS = ("kind_a", "layer_a", "feature_a", "kind_b", "layer_b", "feature_b")
"""What names an item in `comparisons`."""

FEATURES = """
    SELECT DISTINCT graph_idx, layer AS layer_a, feature AS feature_a
    FROM nodes JOIN compared_graphs USING (graph_id) WHERE kind = 'feature'
"""
EDGES = """
    WITH ends AS (
        SELECT graph_idx, node_place(graph_idx, node_idx) AS place, kind,
            CASE WHEN kind = 'feature' THEN layer ELSE -1 END AS layer,
            CASE WHEN kind = 'feature' THEN feature ELSE token_id END AS feature
        FROM nodes JOIN compared_graphs USING (graph_id)
        WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
    ),
    placed AS (
        SELECT node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
        FROM edges JOIN compared_graphs USING (graph_id)
    )
    SELECT DISTINCT source.graph_idx, source.kind AS kind_a, source.layer AS layer_a, source.feature AS feature_a,
        target.kind AS kind_b, target.layer AS layer_b, target.feature AS feature_b
    FROM placed
    JOIN ends AS source ON source.place = placed.source
    JOIN ends AS target ON target.place = placed.target
    WHERE source.kind IN ('feature', 'token') AND target.kind IN ('feature', 'logit')
"""
"""Ends as in `edge_stats`; a graph counts once for an edge, at whatever positions."""

NO_END: dict[str, str | int] = {"kind_b": "none", "layer_b": -1, "feature_b": -1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The incidence of both sides' graphs, first side first, and the names [n_items] of its columns, sorted."""

    incidence: Incidence
    names: pl.DataFrame


def read_held(connections: Sequence[Connection], chosen: Chosen, what: Literal["feature", "edge"]) -> Held:
    """What the chosen graphs hold.

    Args:
        connections: the results file of each side.
        chosen: the graphs of both sides.
        what: features, or edges from features and tokens to features and logits.
    """
    n_first, n_second = chosen.first.height, chosen.second.height
    frames = [
        _read(connections[0], chosen.first, what),
        _read(connections[1], chosen.second, what).with_columns(pl.col("graph_idx") + n_first),
    ]
    places = pl.concat(frames)
    names = places.select(ENDS).unique().sort(ENDS).with_row_index("item_idx")
    places = places.join(names, on=ENDS)
    graph_idx, item_idx = (places[name].to_numpy().astype(np.int64) for name in ("graph_idx", "item_idx"))
    incidence = Incidence.of(graph_idx, item_idx, (n_first + n_second, names.height))
    return Held(incidence=incidence, names=names.drop("item_idx"))


def _read(connection: Connection, graphs: pl.DataFrame, what: Literal["feature", "edge"]) -> pl.DataFrame:
    numbered = {"graph_id": graphs["graph_id"].to_arrow(), "graph_idx": np.arange(graphs.height)}
    define_ends(connection)
    connection.register("compared_graphs", pa.table(numbered))
    try:
        found = pl.DataFrame(connection.sql(FEATURES if what == "feature" else EDGES).to_arrow_table())
    finally:
        connection.unregister("compared_graphs")
    if what == "feature":
        found = found.with_columns(pl.lit("feature").alias("kind_a"))
        found = found.with_columns(pl.lit(value).alias(name) for name, value in NO_END.items())
    numbers = ("graph_idx", *(name for name in ENDS if not name.startswith("kind")))
    return found.select("graph_idx", *ENDS).with_columns(pl.col(*numbers).cast(pl.Int64))
