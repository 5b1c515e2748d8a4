"""Builds the results.duckdb of a harvest from the committed parts: equal parts give equal tables, in any order.

What is counted adds up; of candidate examples the best of all are chosen as each shard chose its own. Everything is
done layer by layer, and by the database, which lays on disk what memory does not hold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.aggregate.coactivation import coactivation_rows
from tracer.aggregate.harvest.absent import ReferenceWindows
from tracer.aggregate.harvest.examples import ExampleWriter
from tracer.aggregate.merge import merge_counts
from tracer.aggregate.sql import read_sql
from tracer.config.harvest import HarvestSettings
from tracer.tables.building import build_database, create_table, create_view, insert_rows, view_parts
from tracer.tables.database import Connection
from tracer.tables.harvest_tables import HARVEST_SHARD_TABLES, HARVEST_TABLES
from tracer.tables.parts import Part
from tracer.tables.quoting import quoted
from tracer.tables.rows import as_table
from tracer.tables.schema import SCHEMA_VERSION

ADDED_UP = ("feature_activation_hist", "feature_positions")


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestParts:
    """What a harvest is built from: parts by table, relative to `root`; features of each layer, by layer."""

    root: Path
    parts: Mapping[str, Sequence[Part]]
    n_features: Mapping[int, int]
    token_separator: str


def build_harvest(
    target: Path,
    given: HarvestParts,
    *,
    config: HarvestSettings,
    harvest_row: Mapping[str, Any],
    weights_table: Callable[[str], pa.Table],
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Make results.duckdb.

    Args:
        target: the file.
        given: the committed parts.
        config: what is kept.
        harvest_row: columns of `harvests`, but for what is counted here.
        weights_table: gives the rows of `feature_logits`, `feature_neighbours` and `feature_excitations`.
        say: told what is being made.

    Raises:
        ArtifactError: a part is absent, damaged or foreign.
    """
    with build_database(target, memory_limit_bytes=config.memory_limit_bytes) as connection:
        for table in HARVEST_SHARD_TABLES:
            view_parts(connection, given.root, table, given.parts.get(table.name, ()))
        say("documents and counts")
        for name, key in (("documents", "document_id"), ("failures", "stage, item_id")):
            _make(connection, name, f"SELECT * FROM part_{name} ORDER BY {key}")
        for name in ADDED_UP:
            create_table(connection, HARVEST_TABLES[name])
            merge_counts(connection, HARVEST_TABLES[name])
        _build_tokens(connection, given, say)
        say("features")
        _build_features(connection, given, config, weights_table)
        _build_examples(connection, given, config, say)
        _build_harvests(connection, given, harvest_row)


def _make(connection: Connection, name: str, query: str, parameters: Mapping[str, Any] | None = None) -> None:
    create_table(connection, HARVEST_TABLES[name])
    _fill(connection, name, query, parameters)


def _fill(connection: Connection, name: str, query: str, parameters: Mapping[str, Any] | None = None) -> None:
    columns = ", ".join(quoted(column) for column in HARVEST_TABLES[name].column_names())
    connection.execute(f"INSERT INTO {quoted(name)} ({columns}) SELECT {columns} FROM ({query})", parameters or {})


def _build_tokens(connection: Connection, given: HarvestParts, say: Callable[[str], None]) -> None:
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ("n_at", "n_before", "n_after"))
    query = f"SELECT token_id, min(token) AS token, {sums} FROM part_token_sums GROUP BY token_id ORDER BY token_id"
    _make(connection, "token_counts", query)
    connection.execute("CREATE TEMP VIEW token_counts_texts AS SELECT token_id, token FROM token_counts")
    create_table(connection, HARVEST_TABLES["feature_tokens"])
    for layer in given.n_features:
        say(f"tokens of layer {layer}")
        _fill(connection, "feature_tokens", read_sql("harvest/feature_tokens"), {"layer": layer})


def _build_features(
    connection: Connection,
    given: HarvestParts,
    config: HarvestSettings,
    weights_table: Callable[[str], pa.Table],
) -> None:
    connection.execute("CREATE TEMP TABLE every_feature (layer BIGINT, feature BIGINT)")
    for layer, n_features in given.n_features.items():
        connection.execute("INSERT INTO every_feature SELECT $layer, range FROM range($n)", {
            "layer": layer, "n": n_features,
        })  # fmt: skip
    connection.register("feature_weights", weights_table("feature_logits"))
    _make(connection, "features", read_sql("harvest/features"), {"dense_frequency": config.dense_frequency})
    connection.unregister("feature_weights")
    logits = HARVEST_TABLES["feature_logits"]
    create_view(connection, logits, f"SELECT {', '.join(map(quoted, logits.column_names()))} FROM features")
    for name in ("feature_neighbours", "feature_excitations"):
        create_table(connection, HARVEST_TABLES[name])
        insert_rows(connection, HARVEST_TABLES[name], weights_table(name))
    create_table(connection, HARVEST_TABLES["feature_coactivation"])
    pairs = connection.sql("""
        SELECT grain, layer_a, feature_a, layer_b, feature_b, sum(support)::BIGINT AS support
        FROM part_coactivation_pairs GROUP BY ALL ORDER BY ALL
    """).pl()
    lengths = connection.sql(
        "SELECT grain, length, sum(n)::BIGINT AS n FROM part_coactivation_lengths GROUP BY ALL ORDER BY ALL"
    ).pl()
    if len(pairs):
        features = connection.sql("SELECT layer, feature, n_firings, n_documents, is_dense FROM features").pl()
        table = HARVEST_TABLES["feature_coactivation"]
        rows = coactivation_rows(pairs, lengths, features, config.coactivation.min_support)
        insert_rows(connection, table, as_table(table, rows))


def _build_examples(
    connection: Connection, given: HarvestParts, config: HarvestSettings, say: Callable[[str], None]
) -> None:
    create_table(connection, HARVEST_TABLES["examples"])
    references = ReferenceWindows.read(connection, given.n_features)
    writer = ExampleWriter(connection, config.examples, given.token_separator)
    for layer, n_features in given.n_features.items():
        say(f"examples of layer {layer}")
        writer.write(layer, n_features, references.absent(connection, layer, config.examples))


def _build_harvests(connection: Connection, given: HarvestParts, harvest_row: Mapping[str, Any]) -> None:
    counted = connection.sql("""
        SELECT count(*) AS n_documents, coalesce(sum(n_windows), 0)::BIGINT AS n_windows,
            coalesce(sum(n_eligible_tokens), 0)::BIGINT AS n_eligible_tokens,
            coalesce(sum(n_special_tokens), 0)::BIGINT AS n_special_tokens,
            coalesce(sum(n_high_norm_tokens), 0)::BIGINT AS n_high_norm_tokens,
            (SELECT coalesce(sum(len(token_ids)), 0)::BIGINT FROM part_harvest_windows) AS n_tokens,
            (SELECT count(*) FROM failures) AS n_failures
        FROM documents
    """).pl()
    table = HARVEST_TABLES["harvests"]
    create_table(connection, table)
    row = {
        **harvest_row,
        **counted.row(0, named=True),
        "n_features": sum(given.n_features.values()),
        "schema_version": SCHEMA_VERSION,
    }
    insert_rows(connection, table, pa.Table.from_pylist([row], schema=table.arrow_schema()))
