"""Builds `results.duckdb` from the committed parts, table by table in the order in which they need one another."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.aggregate.components import build_components
from tracer.aggregate.edge_stats import build_edge_stats
from tracer.aggregate.examples import merge_examples
from tracer.aggregate.features import build_features
from tracer.aggregate.hypergraph.cooccurrence import build_cooccurrence
from tracer.aggregate.merge import concatenate, merge_counts
from tracer.aggregate.metadata import metadata_names, stratum_column
from tracer.aggregate.prompts import build_prompts
from tracer.config import AggregateConfig
from tracer.tables.database import Connection, build_database, create_table, insert_rows, view_parts
from tracer.tables.neuronpedia_links import NeuronpediaSources
from tracer.tables.parts import Part
from tracer.tables.schema import SCHEMA_VERSION, SHARD_TABLES, TABLES

Features = list[tuple[int, int]]
"""(layer, feature) pairs, sorted."""


def aggregate(
    root: Path,
    parts: Mapping[str, Sequence[Part]],
    *,
    config: AggregateConfig,
    metadata_columns: Mapping[str, str],
    run_row: Mapping[str, Any],
    feature_logits: Callable[[Features], pa.Table],
    target: Path,
) -> None:
    """Make `target` from the parts of committed shards; equal parts give equal tables, in whatever order they come.

    Args:
        root: the run folder, to which the paths of parts are relative.
        parts: the committed parts by table name; a table without parts comes out empty.
        config: what is counted, and from which support on.
        metadata_columns: the corpus's own columns with their types (text, int, float or bool).
        run_row: columns of `runs`, but for those counted here (graphs, failures, eligible tokens, schema version).
        feature_logits: gives the rows of `feature_logits` for sorted (layer, feature) pairs.
        target: the file to make; it appears, or replaces an older one, only when it is whole.

    Raises:
        ArtifactError: a part is absent, damaged, foreign, or committed twice.
        ConfigError: `stratify_by` names no column of the prompts.
    """
    names = metadata_names(metadata_columns)
    stratum = stratum_column(config.stratify_by, names)
    with build_database(target) as connection:
        for table in SHARD_TABLES:
            view_parts(connection, root, table, parts.get(table.name, ()))
        build_prompts(connection, names, metadata_columns)
        for name in ("graphs", "logits", "nodes", "edges", "head_loadings", "qk_edges", "failures"):
            concatenate(connection, TABLES[name])
        for name in ("token_counts", "feature_tokens", "feature_activation_hist"):
            merge_counts(connection, TABLES[name])
        merge_examples(connection, n_examples=config.n_examples)
        build_features(connection, feature_logits, NeuronpediaSources.named(run_row.get("neuronpedia")))
        build_cooccurrence(connection, min_support=config.min_support, stratum=stratum)
        build_edge_stats(connection, min_support=config.min_support)
        build_components(connection, n_layers=run_row["n_layers"])
        create_table(connection, TABLES["labels"])
        _build_runs(connection, run_row)


def _build_runs(connection: Connection, run_row: Mapping[str, Any]) -> None:
    counted = {
        "schema_version": SCHEMA_VERSION,
        "n_graphs": _number(connection, "SELECT count(*) FROM graphs"),
        "n_failures": _number(connection, "SELECT count(*) FROM failures"),
        "n_eligible_tokens": _number(connection, "SELECT coalesce(sum(n_at), 0) FROM token_counts"),
    }
    table = TABLES["runs"]
    create_table(connection, table)
    insert_rows(connection, table, pa.Table.from_pylist([{**run_row, **counted}], schema=table.arrow_schema()))


def _number(connection: Connection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])
