"""Builds `results.duckdb` from the committed parts, table by table in the order in which they need one another.

Shards are counted batch by batch, each batch read once, and the counts add up (`tracer.aggregate.state`). A build that
finds the results and the state of an earlier one counts the new shards alone. What does not add up is made anew:
closed sets, clusters and comparisons, from the incidence that the state holds.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from tracer.aggregate.batches import REBUILT, Parts, make_batches, names_of, parts_hash, without
from tracer.aggregate.circuits.build import build_circuits
from tracer.aggregate.circuits.motifs import build_motifs
from tracer.aggregate.comparing.build import build_comparisons
from tracer.aggregate.examples import merge_examples
from tracer.aggregate.frequencies.features import Features, build_features, remember_logits
from tracer.aggregate.frequencies.frequencies import build_frequencies, define_measures
from tracer.aggregate.hypergraph.build import build_hypergraph
from tracer.aggregate.merge import concatenate, merge_counts
from tracer.aggregate.metadata import MetadataColumns
from tracer.aggregate.new_rows import mark_new_rows
from tracer.aggregate.partial.count import READ, Counting, count_batch
from tracer.aggregate.prompts import append_prompts, create_prompts
from tracer.aggregate.sql import read_sql
from tracer.aggregate.state import SCHEMA, STATE_VERSION, add_batches, remember_parts, remembered_parts
from tracer.aggregate.tasks import TaskMap, in_process
from tracer.config import AggregateConfig, result_settings
from tracer.errors import ArtifactError
from tracer.storage.json_files import json_hash
from tracer.tables.building import (
    build_database,
    create_table,
    create_view,
    insert_rows,
    less_memory,
    scratch_folder,
    view_parts,
)
from tracer.tables.database import Connection, rows_of
from tracer.tables.label_writing import create_label_tables
from tracer.tables.neuronpedia_links import NeuronpediaSources
from tracer.tables.quoting import quoted
from tracer.tables.schema import SCHEMA_VERSION, SHARD_TABLES, TABLES

CONCATENATED = ("graphs", "logits", "nodes", "edges", "head_loadings", "qk_edges")
COUNTED_BY_TOKEN = ("token_counts", "feature_tokens", "feature_activation_hist")
COUNTED_BY = ("by", "head_share", "min_support", "n_examples")
"""The settings on which a state depends."""
APPENDED = ("prompts", *CONCATENATED, *COUNTED_BY_TOKEN, "examples")
"""The tables to which an earlier build's are added; all others are made anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a build takes place.

    `root` is the folder to which the paths of parts are relative; `target` and `state` are the files to make, which
    appear, or replace older ones, only when they are whole; `earlier` has the results and the state of an earlier build
    of this run, which may lie in the same places. `run` does what falls into blocks, `n_at_once` of them at a time;
    `say` is told what is being made.
    """

    root: Path
    target: Path
    state: Path
    earlier: tuple[Path, Path] | None = None
    run: TaskMap = in_process
    n_at_once: int = 1
    say: Callable[[str], None] = field(default=lambda _: None)


def aggregate(
    site: Site,
    parts: Parts,
    *,
    config: AggregateConfig,
    metadata_columns: Mapping[str, str],
    run_row: Mapping[str, Any],
    feature_logits: Callable[[Features], pa.Table],
) -> None:
    """Make results and state from the parts of committed shards; equal parts give equal tables, whatever their order.

    Args:
        site: where.
        parts: the committed parts by table name; a table without parts comes out empty.
        config: what is counted, and from which support on.
        metadata_columns: the corpus's own columns with their types (text, int, float or bool).
        run_row: columns of `runs`, but for those counted here (graphs, failures, eligible tokens, schema version).
        feature_logits: gives the rows of `feature_logits` for sorted (layer, feature) pairs.

    Raises:
        ArtifactError: a part is absent, damaged, foreign, or committed twice.
        ConfigError: a setting names no column of the prompts.
    """
    columns = MetadataColumns.of(config, metadata_columns)
    settings = settings_hash(config, metadata_columns, run_row["tracer_version"])
    known = earlier_parts(site, parts, settings)
    started_from = {} if not known else dict(zip((site.target, site.state), site.earlier or (), strict=True))
    with (
        scratch_folder(site.target) as scratch,
        build_database(
            site.target,
            beside={SCHEMA: site.state},
            started_from=started_from,
            memory_limit_bytes=config.memory_limit_bytes,
        ) as connection,
    ):
        new = without(parts, known)
        remember_logits(connection, is_new=not known)
        _start(connection, columns, is_new=not known)
        n_counted = 0 if not known else _number(connection, f"SELECT count(*) FROM {SCHEMA}.graph_numbers")
        _count(connection, site, new, columns, config, scratch, n_counted=n_counted, is_new=not known)
        remember_parts(connection, settings, names_of(new))
        mark_new_rows(connection, n_counted)
        _append(connection, site, new, columns, config)
        _derive(connection, site, columns, config, run_row, feature_logits)


def parts_to_read(
    site: Site,
    parts: Parts,
    *,
    config: AggregateConfig,
    metadata_columns: Mapping[str, str],
    run_row: Mapping[str, Any],
) -> Parts:
    """The parts that `aggregate` reads under `site.root`, given the same: those that no earlier build holds."""
    return without(
        parts, earlier_parts(site, parts, settings_hash(config, metadata_columns, run_row["tracer_version"]))
    )


def earlier_parts(site: Site, parts: Parts, settings: str) -> frozenset[str]:
    """The parts that an earlier build holds; none where it cannot be gone on from: it holds others, or other counts."""
    if site.earlier is None:
        return frozenset()
    results, state = site.earlier
    known = remembered_parts(state, settings)
    if not known or not known <= names_of(parts):
        return frozenset()
    try:
        made_from = rows_of(results, "SELECT parts_hash FROM runs")
    except ArtifactError:
        return frozenset()
    return known if made_from == [(parts_hash(known),)] else frozenset()


def settings_hash(config: AggregateConfig, metadata_columns: Mapping[str, str], tracer_version: str) -> str:
    """Hash of what a state, and the tables that are appended to, depend on beside the parts."""
    counted = result_settings(config)
    told = [
        {name: counted[name] for name in COUNTED_BY},
        dict(metadata_columns),
        SCHEMA_VERSION,
        STATE_VERSION,
        tracer_version,
    ]
    return json_hash(told)


def _start(connection: Connection, columns: MetadataColumns, *, is_new: bool) -> None:
    """Have the tables that are appended to, and no others."""
    if is_new:
        create_prompts(connection, columns)
        for name in APPENDED[1:]:
            create_table(connection, TABLES[name])
        return
    for name, kind in connection.execute(
        "SELECT table_name, table_type FROM information_schema.tables WHERE table_catalog = 'results'"
    ).fetchall():
        if name not in APPENDED:
            connection.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} results.{quoted(name)}")


def _count(
    connection: Connection,
    site: Site,
    new: Parts,
    columns: MetadataColumns,
    config: AggregateConfig,
    scratch: Path,
    *,
    n_counted: int,
    is_new: bool,
) -> None:
    batches = make_batches(new, n_counted)
    n_at_once = min(site.n_at_once, len(batches))
    counting = Counting(
        root=site.root,
        scratch=scratch,
        columns=columns,
        head_share=config.head_share,
        memory_limit_bytes=config.memory_limit_bytes // n_at_once,
        n_threads=max(1, (os.cpu_count() or 1) // n_at_once),
    )
    files: dict[str, list[str]] = {}
    for number, counted in enumerate(site.run(count_batch, counting, batches), 1):
        site.say(f"counting: {number} of {len(batches)} batches")
        for name, file in counted.items():
            files.setdefault(name, []).append(file)
    add_batches(connection, files, is_new=is_new)


def _append(connection: Connection, site: Site, new: Parts, columns: MetadataColumns, config: AggregateConfig) -> None:
    site.say("graphs, nodes and edges")
    for table in SHARD_TABLES:
        view_parts(connection, site.root, table, new.get(table.name, ()), are_checked=table.name in READ)
    append_prompts(connection, columns)
    for name in CONCATENATED:
        concatenate(connection, TABLES[name])
    for name in COUNTED_BY_TOKEN:
        merge_counts(connection, TABLES[name])
    merge_examples(connection, n_examples=config.n_examples)
    for name in REBUILT:
        create_table(connection, TABLES[name])
        concatenate(connection, TABLES[name])


def _derive(
    connection: Connection,
    site: Site,
    columns: MetadataColumns,
    config: AggregateConfig,
    run_row: Mapping[str, Any],
    feature_logits: Callable[[Features], pa.Table],
) -> None:
    site.say("frequencies")
    define_measures(connection)
    neuronpedia = NeuronpediaSources.named(run_row.get("neuronpedia"))
    build_features(connection, feature_logits, neuronpedia, dense_frequency=config.dense_frequency)
    build_frequencies(connection, min_support=config.min_support, n_layers=run_row["n_layers"])
    create_view(connection, TABLES["incidence"], read_sql("incidence"))
    with less_memory(connection, config.memory_limit_bytes):  # pairs and sets are counted outside it
        build_hypergraph(connection, config, columns.stratum, run=site.run, say=site.say)
    build_circuits(
        connection,
        by=columns.by,
        min_support=config.min_support,
        settings=config.circuits,
        run=site.run,
        say=site.say,
    )
    site.say("motifs")
    build_motifs(connection, min_support=config.min_support, settings=config.motifs, run=site.run)
    site.say("comparisons")
    create_table(connection, TABLES["comparisons"])
    build_comparisons(connection, config.comparisons, min_support=config.min_support)
    create_label_tables(connection)
    _build_runs(connection, run_row)


def _build_runs(connection: Connection, run_row: Mapping[str, Any]) -> None:
    counted = {
        "schema_version": SCHEMA_VERSION,
        "n_graphs": _number(connection, "SELECT count(*) FROM graphs"),
        "n_failures": _number(connection, "SELECT count(*) FROM failures"),
        "n_eligible_tokens": _number(connection, "SELECT coalesce(sum(n_at), 0) FROM token_counts"),
        "parts_hash": parts_hash(part for (part,) in connection.execute(f"SELECT part FROM {SCHEMA}.parts").fetchall()),
    }
    table = TABLES["runs"]
    create_table(connection, table)
    insert_rows(connection, table, pa.Table.from_pylist([{**run_row, **counted}], schema=table.arrow_schema()))


def _number(connection: Connection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return int(row[0])
