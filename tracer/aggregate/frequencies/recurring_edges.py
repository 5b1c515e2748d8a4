"""Question: which edges do enough graphs keep, whatever their metadata?

Most edges are in one graph alone, and grouping them all would take most of the time of a large run. So counts are first
added up in slots that edges fall into by hash: an edge is in no more graphs than its slot. Only edges in slots that
reach the minimum are grouped; the result is exact (the filter of Fang et al., "Computing iceberg queries efficiently",
1998).

What is remembered is every edge that was in more graphs than a bound below the minimum, when all counts were last
looked at, with its counts (`state.frequent_counts`). An edge that is not remembered can have come to the minimum only
by being in many of the graphs since then; those that are in enough of them are looked up in all counts. Once too many
counts have come in since, all are looked at anew.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from tracer.aggregate.incidence import Ints
from tracer.aggregate.sql import execute_sql, read_sql
from tracer.aggregate.state import MAX_NEW_SHARE, REMEMBERED, SCHEMA
from tracer.tables.database import Connection

ROWS_AT_ONCE = 2**20
ROWS_PER_GROUPING = 2**23
MIN_SLOT_BITS, MAX_SLOT_BITS = 12, 27
"""Slots hold 4 bytes each: at most 512 MB."""
_EDGES = f"SELECT source, target, support FROM {SCHEMA}.edges"
_MULTIPLIERS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def list_recurring_edges(connection: Connection, min_support: int) -> int:
    """Make the temporary table `recurring_edges` (source, target) of edges in at least `min_support` graphs.

    Rows of the counts of edges from the returned one on came after those that are remembered.

    Args:
        connection: the results being built, the state attached; what is looked at anew is remembered there.
        min_support: fewest graphs, in every build of this state.
    """
    n_rows, n_places = connection.execute(
        f"SELECT count(*), coalesce(max(rowid) + 1, 0) FROM {SCHEMA}.edges"
    ).fetchall()[0]
    assert n_rows == n_places, "counts of edges are only ever put behind others"
    connection.execute(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.edges_counted (bound BIGINT, n_rows BIGINT)")
    counted = connection.execute(f"FROM {SCHEMA}.edges_counted").fetchall()
    if not counted or n_rows - counted[0][1] > MAX_NEW_SHARE * counted[0][1]:
        counted = [(math.ceil(REMEMBERED * min_support) - 1, n_rows)]
        _remember(connection, *counted[0])
    bound, n_known = counted[0]
    execute_sql(
        connection,
        "frequencies/recurring_edges",
        n_known=n_known,
        least_gain=min_support - bound,
        min_support=min_support,
    )
    return n_known


def _remember(connection: Connection, bound: int, n_rows: int) -> None:
    connection.register("frequent", _frequent(connection, n_rows, bound + 1).to_arrow())
    connection.execute(f"CREATE OR REPLACE TABLE {SCHEMA}.frequent_edges AS SELECT * FROM frequent")
    connection.unregister("frequent")
    connection.execute(read_sql("frequencies/frequent_counts"))
    connection.execute(f"CREATE OR REPLACE TABLE {SCHEMA}.edges_counted AS SELECT {bound} AS bound, {n_rows} AS n_rows")


def _frequent(connection: Connection, n_rows: int, min_support: int) -> pl.DataFrame:
    """Edges in at least so many graphs, with their supports, from all counts."""
    n_bits = min(MAX_SLOT_BITS, max(MIN_SLOT_BITS, int(n_rows).bit_length()))
    counts = np.zeros(2**n_bits, np.int32)
    for source, target, support in _pieces(connection):
        np.add.at(counts, _slots(source, target, n_bits), support)
    schema = {"source": pl.Int64, "target": pl.Int64, "support": pl.Int64}
    found, waiting, n_waiting = pl.DataFrame(schema=schema), list[pl.DataFrame](), 0
    for source, target, support in _pieces(connection):
        kept = counts[_slots(source, target, n_bits)] >= min_support
        columns = {"source": source[kept], "target": target[kept], "support": support[kept].astype(np.int64)}
        waiting.append(pl.DataFrame(columns, schema=schema))
        n_waiting += len(waiting[-1])
        if n_waiting > ROWS_PER_GROUPING:
            found, waiting, n_waiting = _grouped([found, *waiting]), [], 0
    return _grouped([found, *waiting]).filter(pl.col("support") >= min_support)


def _grouped(parts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).group_by("source", "target").agg(pl.col("support").sum())


def _pieces(connection: Connection) -> Iterator[tuple[Ints, Ints, npt.NDArray[np.int32]]]:
    """Source, target and support of the state's counts, some rows at a time."""
    for batch in connection.sql(_EDGES).to_arrow_reader(ROWS_AT_ONCE):
        yield tuple(batch[name].to_numpy() for name in ("source", "target", "support"))


def _slots(source: Ints, target: Ints, n_bits: int) -> npt.NDArray[np.int64]:
    """Multiplicative hashing of both ends, [n_edges]."""
    first, second = _MULTIPLIERS
    mixed = (source.astype(np.uint64) * first + target.astype(np.uint64)) * second
    return (mixed >> np.uint64(64 - n_bits)).astype(np.int64)
