"""Question: which nodes and edges do the graphs of a task, split or other value share?

A consensus circuit holds the edges that at least `min_support` graphs of its value keep, at most `max_edges` of them
(the strongest by edge score), and as nodes: the ends of its edges, and features in at least `min_support` of its graphs
that carry influence there but are at no end (at most `max_edges` of them too). Support and frequency stand with every
node and edge. A value without such edges has no circuit.
"""

from collections.abc import Sequence

import numpy as np

from tracer.aggregate.circuits.resampling import multiplicities, set_jaccard
from tracer.aggregate.circuits.samples import Edges, EdgesInGraphs, edges_in_graphs, sampled_graphs
from tracer.aggregate.circuits.staging import stage
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.sql import read_sql
from tracer.config import CircuitConfig
from tracer.tables.database import Connection
from tracer.tables.frequency_tables import EDGE_KEY


def stage_consensus(
    connection: Connection, edges: Edges, by: Sequence[str], min_support: int, settings: CircuitConfig, seed: int
) -> list[str]:
    """Stage the consensus circuit of every value; their ids, sorted."""
    asked = {"by": list(by), "min_support": min_support, "max_edges": settings.max_edges}
    connection.execute(read_sql("circuits/consensus_edges"), asked)
    connection.execute(read_sql("circuits/consensus_features"), asked)
    connection.execute(read_sql("circuits/consensus_ends"))
    found = connection.execute(
        "SELECT circuit_id, by_column, by_value, n_graphs, n_shared FROM circuit_value_sizes JOIN ("
        "SELECT by_column, by_value, count(*) AS n_shared FROM edge_frequency WHERE support >= ? GROUP BY ALL"
        ") USING (by_column, by_value) WHERE list_contains(?, by_column) ORDER BY circuit_id",
        [min_support, list(by)],
    ).fetchall()
    rows = []
    for circuit_id, by_column, by_value, n_graphs, n_shared in found:
        graph_ids = sampled_graphs(connection, circuit_id)
        stability = None
        if len(graph_ids) > 1:
            held = edges_in_graphs(connection, circuit_id, len(graph_ids), len(edges.support))
            drawn = multiplicities(len(graph_ids), settings.n_resamples, seed, circuit_id)
            # a sample holds an edge in proportion
            least = min_support * len(graph_ids) / n_graphs
            stability = edge_stability(held, drawn, min_support=least, max_edges=settings.max_edges)
        n_edges = min(n_shared, settings.max_edges)
        method = f"edges with support >= {min_support}: {n_edges} of {n_shared}, the strongest by edge score"
        if len(graph_ids) < n_graphs:
            method += f"; resampled from {len(graph_ids)} graphs"
        rows.append({
            "circuit_id": circuit_id,
            "kind": "consensus",
            "by_column": by_column,
            "by_value": by_value,
            "method": method,
            "n_graphs": n_graphs,
            "stability": stability,
        })
    stage(connection, "circuits", rows)
    return [row["circuit_id"] for row in rows]


def consensus_edge_set(support: Floats, score: Floats, *, min_support: float, max_edges: int) -> np.ndarray:
    """Flags of the edges with enough support, the `max_edges` of the largest score among them, [n_edges]."""
    enough = np.flatnonzero((support > 0) & (support >= min_support))
    # a stable sort leaves ties in the order of the key
    chosen = enough[np.argsort(-score[enough], kind="stable")[:max_edges]]
    flags = np.zeros(len(support), dtype=np.bool_)
    flags[chosen] = True
    return flags


def edge_stability(held: EdgesInGraphs, drawn: Ints, *, min_support: float, max_edges: int) -> float | None:
    """Mean Jaccard similarity of the edge set of all graphs with that of each resample; None without edges.

    Args:
        held: the edges of the value's graphs.
        drawn: how often each graph is drawn, [n_resamples, n_graphs].
        min_support: fewest graphs, counted as often as they were drawn.
        max_edges: most edges.
    """

    kept, scored = held.kept.T.tocsr(), held.score.T.tocsr()

    def edge_set(times: Ints) -> np.ndarray:
        support, score = kept @ times.astype(float), scored @ times.astype(float)
        return consensus_edge_set(support, score, min_support=min_support, max_edges=max_edges)

    everything = edge_set(np.ones(drawn.shape[1], np.int64))
    if not everything.any() or len(drawn) == 0:
        return None
    return float(np.mean([set_jaccard(everything, edge_set(times)) for times in drawn]))


def edge_columns(connection: Connection, circuit_id: str) -> Ints:
    """Numbers of the edges of a staged consensus circuit, sorted."""
    key = ", ".join(EDGE_KEY)
    found = connection.execute(
        f"SELECT edge_idx FROM staged_circuit_edges JOIN circuit_edge_numbers USING ({key}) "
        "WHERE circuit_id = ? ORDER BY edge_idx",
        [circuit_id],
    ).fetchnumpy()
    return np.asarray(found["edge_idx"], dtype=np.int64)
