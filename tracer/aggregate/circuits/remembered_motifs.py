"""Motifs that are counted once and kept up to date: of new graphs, and of motifs that are new, everything is counted.

The state holds the edges of the sampled graphs and the counts of every candidate over them. A candidate that was one
before gains what graphs that came into the sample hold, and loses what those hold that left it; one that was none, as
its edges have just come to recur, is counted in the whole sample. The counts are exact throughout.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.aggregate.circuits.motif_counts import Patterns, RecurringEdges, count_patterns
from tracer.aggregate.ends import define_ends
from tracer.aggregate.incidence import Ints, places_among
from tracer.aggregate.new_rows import first_rows
from tracer.aggregate.sql import execute_sql
from tracer.aggregate.state import SCHEMA
from tracer.aggregate.tasks import TaskMap
from tracer.tables.database import Connection

_NOTHING_YET = f"""
CREATE TABLE IF NOT EXISTS {SCHEMA}.motif_recurring (edge INTEGER, source BIGINT, target BIGINT);
CREATE TABLE IF NOT EXISTS {SCHEMA}.motif_counts
    (shape TINYINT, first INTEGER, second INTEGER, support INTEGER, n_with_nodes INTEGER);
"""
_SAMPLED = f"""
DELETE FROM {SCHEMA}.motif_edges WHERE graph_idx IN (FROM motif_left);
CREATE OR REPLACE TABLE {SCHEMA}.motif_graphs AS SELECT graph_idx FROM motif_sample;
DROP TABLE motif_sample;
DROP TABLE motif_entered;
DROP TABLE motif_left;
"""


def count_patterns_on(
    connection: Connection, edges: RecurringEdges, patterns: Patterns, *, max_graphs: int, seed: int, run: TaskMap
) -> tuple[Ints, int]:
    """Graphs of a sample that keep all edges of each pattern, and those that hold its features, [2, n_patterns].

    Args:
        connection: the results being built, the state attached; what is remembered is brought up to date.
        edges: what patterns are made of.
        patterns: every edge, then motifs, each once.
        max_graphs: graphs of the sample.
        seed: of the sample.
        run: spreads the counting.

    Returns:
        The counts, and the graphs that were sampled.
    """
    define_ends(connection)
    execute_sql(connection, "circuits/motif_graphs", seed=str(seed), max_graphs=max_graphs)
    execute_sql(connection, "circuits/motif_edges", **first_rows(connection, "motif_entered"))
    connection.execute(_NOTHING_YET)
    counts, is_known = _recalled(connection, edges, patterns)
    known = patterns.where(is_known)
    for graphs, sign in (("motif_entered", 1), ("motif_left", -1)):
        counts[:, is_known] += sign * count_patterns(connection, graphs, edges, known, run)
    counts[:, ~is_known] = count_patterns(connection, "motif_sample", edges, patterns.where(~is_known), run)
    _remember(connection, edges, patterns, counts)
    (n_graphs,) = connection.execute("SELECT count(*) FROM motif_sample").fetchall()[0]
    connection.execute(_SAMPLED)
    return counts, n_graphs


def _recalled(connection: Connection, edges: RecurringEdges, patterns: Patterns) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """The remembered counts [2, n_patterns], 0 where there are none, and whether there are."""
    old = connection.execute(f"SELECT source, target FROM {SCHEMA}.motif_recurring ORDER BY edge").fetchnumpy()
    ends, now = np.unique(np.concatenate(edges.ends), return_inverse=True)
    codes = now[: len(edges.source)] * len(ends) + now[len(edges.source) :]
    (source, has_source), (target, has_target) = (places_among(ends, old[name]) for name in ("source", "target"))
    edge, is_edge = places_among(codes, source * len(ends) + target)
    edge[~(is_edge & has_source & has_target)] = -1
    found = connection.execute(f"SELECT * FROM {SCHEMA}.motif_counts").fetchnumpy()
    first, second = edge[found["first"]], edge[found["second"]]
    there = (first >= 0) & (second >= 0)
    keys = _keys(found["shape"][there].astype(np.int64), first[there], second[there], len(codes))
    order = np.argsort(keys)
    place, is_known = places_among(
        keys[order], _keys(patterns.shape, patterns.edges[:, 0], patterns.edges[:, 1], len(codes))
    )
    counts = np.zeros((2, len(place)), np.int64)
    for row, name in enumerate(("support", "n_with_nodes")):
        counts[row, is_known] = found[name][there][order][place[is_known]]
    return counts, is_known


def _keys(shape: Ints, first: Ints, second: Ints, n_edges: int) -> Ints:
    """One number for each pattern, of which the first two edges tell the third."""
    return (shape * n_edges + first) * n_edges + second


def _remember(connection: Connection, edges: RecurringEdges, patterns: Patterns, counts: Ints) -> None:
    source, target = edges.ends
    columns = {
        "shape": patterns.shape.astype(np.int8),
        "first": patterns.edges[:, 0].astype(np.int32),
        "second": patterns.edges[:, 1].astype(np.int32),
        "support": counts[0].astype(np.int32),
        "n_with_nodes": counts[1].astype(np.int32),
    }
    tables = {
        "motif_recurring": {"edge": np.arange(len(source)), "source": source, "target": target},
        "motif_counts": columns,
    }
    for name, values in tables.items():
        connection.register("motifs_to_remember", pa.table(values))
        connection.execute(f"CREATE OR REPLACE TABLE {SCHEMA}.{name} AS SELECT * FROM motifs_to_remember")
        connection.unregister("motifs_to_remember")
