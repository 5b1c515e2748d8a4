"""Rows of the graph tables from graphs: polars frames in, Arrow tables with the declared schema out."""

from collections.abc import Sequence
from math import isnan
from typing import Any

import polars as pl
import pyarrow as pa

from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind
from tracer.storage.json_files import json_hash
from tracer.tables.declare import Table


def as_table(table: Table, frame: pl.DataFrame) -> pa.Table:
    """A frame with the table's columns, in any order, as an Arrow table of its declared schema."""
    return frame.select(table.column_names()).to_arrow().cast(table.arrow_schema())


def from_records(table: Table, records: Sequence[dict[str, Any]]) -> pa.Table:
    """Records as an Arrow table; a column that a record lacks is null."""
    return pa.Table.from_pylist(list(records), schema=table.arrow_schema())


def make_graph_id(prompt_id: str, target_set: dict[str, Any]) -> str:
    """16 hex digits over the prompt and how its targets were chosen."""
    return json_hash([prompt_id, target_set])


def graph_record(graph: Graph, pruned: Graph, *, graph_id: str, prompt_id: str) -> dict[str, Any]:
    """The `graphs` row, volatile columns left to the caller."""
    scores = graph.scores()
    return {
        "graph_id": graph_id,
        "prompt_id": prompt_id,
        "n_tokens": graph.layout.n_pos,
        "n_active_features": graph.layout.n_features,
        "n_rows_computed": int(graph.has_row.sum()),
        "n_feature_nodes": pruned.count(NodeKind.feature),
        "n_error_nodes": pruned.count(NodeKind.error),
        "n_nodes": int(pruned.node_mask.sum()),
        "n_edges": len(pruned.edge_weight),
        "replacement_score": _defined(scores.replacement),
        "completeness_score": _defined(scores.completeness),
        "uncovered_influence": graph.uncovered_influence,
        "n_near_cut": pruned.n_near_cut,
    }


def _defined(score: float) -> float | None:
    return None if isnan(score) else score


def logit_records(graph: Graph, graph_id: str) -> list[dict[str, Any]]:
    """The `logits` rows."""
    return [
        {
            "graph_id": graph_id,
            "target_idx": idx,
            "token_id": target.token_id,
            "token": target.token,
            "pos": target.pos,
            "probability": target.weight,
            "logit": target.logit,
        }
        for idx, target in enumerate(graph.targets)
    ]


def node_frame(pruned: Graph, graph_id: str) -> pl.DataFrame:
    """The `nodes` rows."""
    return pruned.nodes().with_columns(pl.lit(graph_id).alias("graph_id"))


def edge_frame(pruned: Graph, graph_id: str) -> pl.DataFrame:
    """The `edges` rows."""
    return pruned.edges().with_columns(pl.lit(graph_id).alias("graph_id"))
