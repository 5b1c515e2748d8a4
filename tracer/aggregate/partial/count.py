"""Counts one batch of shards in a database of its own; the counts of batches add up to those of the run."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracer.aggregate.ends import define_ends
from tracer.aggregate.metadata import MetadataColumns
from tracer.aggregate.sql import read_sql
from tracer.aggregate.state import COUNTED, LISTED, WHOLE_RUN
from tracer.tables.building import scratch_database, view_parts
from tracer.tables.database import Connection
from tracer.tables.parts import Part
from tracer.tables.quoting import literal
from tracer.tables.schema import TABLES

READ = ("prompts", "graphs", "nodes", "edges", "head_loadings", "feature_counts")
"""The tables whose parts are counted."""
_IN_BETWEEN = ("graph_value_sets", "held", "ends", "carried", "graph_components")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """What is the same for all batches: where the parts lie, where counts go, and what is counted.

    `head_share` and the memory limit are settings; `n_threads` is that of each batch's database.
    """

    root: Path
    scratch: Path
    columns: MetadataColumns
    head_share: float
    memory_limit_bytes: int
    n_threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The parts of some shards by table; graphs are numbered on from `first_graph_idx`."""

    number: int
    parts: Mapping[str, tuple[Part, ...]]
    first_graph_idx: int


def count_batch(counting: Counting, batch: Batch) -> dict[str, str]:
    """Count a batch; gives the Parquet files by the names of `COUNTED` and `LISTED`.

    Raises:
        ArtifactError: a part is absent, damaged or foreign.
    """
    folder = counting.scratch / f"batch-{batch.number}"
    shutil.rmtree(folder, ignore_errors=True)  # what a process that was lost had counted of this batch
    folder.mkdir(parents=True)
    files = {name: str(folder / f"{name}.parquet") for name in (*(counted.name for counted in COUNTED), *LISTED)}
    limits = {"memory_limit_bytes": counting.memory_limit_bytes, "n_threads": counting.n_threads}
    with scratch_database(folder, **limits) as connection:
        for name in READ:
            view_parts(connection, counting.root, TABLES[name], batch.parts.get(name, ()))
        define_ends(connection)
        _number(connection, batch.first_graph_idx)
        _value_graphs(connection, counting.columns)
        for name in _IN_BETWEEN:
            parameters = {"head_share": counting.head_share} if name == "graph_components" else {}
            connection.execute(read_sql(f"partial/{name}"), parameters)
        for name, file in files.items():
            query = "SELECT * FROM graph_numbers" if name == "graph_numbers" else read_sql(f"partial/{name}")
            connection.execute(f"COPY ({query}) TO {literal(file)} (FORMAT parquet)")
    return files


def _number(connection: Connection, first_graph_idx: int) -> None:
    """Have one number for each graph of the batch, and one for each node, by which edges find their ends."""
    connection.execute(
        "CREATE TEMP TABLE graph_numbers AS SELECT graph_id, "
        f"(row_number() OVER (ORDER BY graph_id) - 1 + {first_graph_idx})::INTEGER AS graph_idx FROM part_graphs"
    )
    ends = "node_place(graph_idx, target_idx) AS target, node_place(graph_idx, source_idx) AS source, "
    places = {"nodes": "node_place(graph_idx, node_idx) AS place, ", "edges": ends, "graphs": "", "head_loadings": ends}
    for name, numbers in places.items():
        connection.execute(
            f"CREATE TEMP TABLE {name} AS SELECT graph_idx, {numbers}part_{name}.* EXCLUDE (graph_id) "
            f"FROM part_{name} JOIN graph_numbers USING (graph_id)"
        )


def _value_graphs(connection: Connection, columns: MetadataColumns) -> None:
    """Make `graph_values`: of each graph what it is counted under, the whole run first."""
    whole = literal(WHOLE_RUN)
    queries = [f"SELECT graph_idx, {whole} AS by_column, {whole} AS by_value FROM graphs"]
    for column in columns.by:
        value = f"CAST({columns.value(column)} AS VARCHAR)"
        valued = f"SELECT prompt_id, {value} AS by_value FROM part_prompts WHERE {value} IS NOT NULL"
        queries.append(f"SELECT graph_idx, {literal(column)}, by_value FROM graphs JOIN ({valued}) USING (prompt_id)")
    connection.execute(f"CREATE TEMP TABLE graph_values AS {' UNION ALL '.join(queries)}")
