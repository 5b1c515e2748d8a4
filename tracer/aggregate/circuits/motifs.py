"""Question: which patterns of two or three edges between features recur, beyond what their edges and nodes explain?

A motif counts in a graph that keeps all its edges, at any positions; a chain counts also where a -> c is kept, and two
edges of a motif need not meet at one position. Edges that recur (in `edge_stats`) are combined, within the bounds of
`MotifConfig`; what bit is written into the comment of the table, logged, and returned. `expected` holds the features
fixed: graphs with all three, times for each edge the share of the graphs with both its ends that keep it.

Where graphs are sampled (by hash), support, nodes and expectation are all of the sample. A candidate that is in fewer
than `min_support` graphs is tested with p = 1, so q-values are over all candidates of a shape.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracer.aggregate.circuits.motif_candidates import Motifs, find_candidates
from tracer.aggregate.circuits.motif_counts import Patterns, RecurringEdges
from tracer.aggregate.circuits.remembered_motifs import count_patterns_on
from tracer.aggregate.hypergraph.significance import benjamini_hochberg, poisson_above
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.tasks import TaskMap, in_process
from tracer.config import MotifConfig
from tracer.tables.building import create_table, insert_columns
from tracer.tables.database import Connection
from tracer.tables.quoting import literal
from tracer.tables.schema import TABLES

logger = logging.getLogger(__name__)

DEFAULTS = MotifConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class MotifCounts:
    """What motifs were looked for: graphs counted of all, candidates of each shape, and what the bounds left out."""

    n_graphs_counted: int
    n_graphs: int
    n_candidates: dict[str, int]
    min_support_combined: int
    n_edges_left_out: int

    def told(self) -> str:
        """The same in words."""
        parts = [f"counted on {self.n_graphs_counted} of {self.n_graphs} graphs"]
        parts.append(f"edges with support >= {self.min_support_combined} combined")
        if self.n_edges_left_out:
            parts.append(f"{self.n_edges_left_out} ends of edges at hubs left out, those of least support")
        parts.append(", ".join(f"{n} candidates of {shape}" for shape, n in self.n_candidates.items()))
        return "; ".join(parts)


def build_motifs(
    connection: Connection,
    *,
    min_support: int,
    settings: MotifConfig = DEFAULTS,
    seed: int = 0,
    run: TaskMap = in_process,
) -> MotifCounts:
    """Make `motifs`.

    Args:
        connection: the results being built, the state attached, with `graphs`, `nodes`, `edges` and `edge_stats` in
            it.
        min_support: fewest graphs of a motif, and of each of its edges.
        settings: bounds.
        seed: of the sample of graphs.
        run: spreads blocks of graphs.
    """
    create_table(connection, TABLES["motifs"])
    edges = _read_recurring(connection, min_support)
    found = find_candidates(
        edges.source,
        edges.target,
        edges.support,
        max_edges_per_side=settings.max_edges_per_side,
        max_candidates=settings.max_candidates,
    )
    patterns = Patterns.of(edges, found.motifs)
    counted, n_counted = count_patterns_on(
        connection, edges, patterns, max_graphs=settings.max_graphs, seed=seed, run=run
    )
    _insert(connection, edges, found.motifs, counted, min_support)
    (n_graphs,) = connection.execute("SELECT count(*) FROM graphs").fetchall()[0]
    counts = MotifCounts(
        n_graphs_counted=n_counted,
        n_graphs=n_graphs,
        n_candidates={motifs.shape: len(motifs.edges) for motifs in found.motifs},
        min_support_combined=max(found.min_support_combined, min_support),
        n_edges_left_out=found.n_edges_left_out,
    )
    comment = f"one row per {TABLES['motifs'].grain}; {counts.told()}"
    connection.execute(f"COMMENT ON TABLE motifs IS {literal(comment)}")
    if n_counted < n_graphs or counts.n_edges_left_out or counts.min_support_combined > min_support:
        logger.warning("motifs: %s", counts.told())
    return counts


def expected_support(n_with_nodes: Ints, support: Ints, n_with_ends: Ints, edges: Ints) -> Floats:
    """Graphs expected with each motif if edges were kept independently where their ends are, [n_motifs].

    Args:
        n_with_nodes: graphs that hold the motif's features, [n_motifs].
        support: graphs that keep each edge, [n_edges].
        n_with_ends: graphs that hold both ends of each edge, [n_edges].
        edges: the motif's edges, [n_motifs, 2 or 3].
    """
    kept = np.divide(support, n_with_ends, out=np.zeros(len(support)), where=n_with_ends > 0)
    return n_with_nodes * kept[edges].prod(axis=1)


def _insert(
    connection: Connection, edges: RecurringEdges, motifs: Sequence[Motifs], counts: Ints, min_support: int
) -> None:
    """Put in the motifs of each shape; `counts` [2, n_patterns] are of every edge, then of the motifs."""
    cuts = np.cumsum([len(edges.source), *(len(of_shape.edges) for of_shape in motifs)])
    (support, n_with_ends), *of_shapes = np.split(counts, cuts[:-1], axis=1)
    for of_shape, (n_motif, n_with_nodes) in zip(motifs, of_shapes, strict=True):
        listed = np.flatnonzero(n_motif >= min_support)
        if len(listed):
            some = of_shape.where(listed)
            expected = expected_support(n_with_nodes[listed], support, n_with_ends, some.edges)
            columns = _columns(edges, some, n_motif[listed], n_with_nodes[listed], expected, len(of_shape.edges))
            insert_columns(connection, TABLES["motifs"], columns)


def _columns(
    edges: RecurringEdges, motifs: Motifs, support: Ints, n_with_nodes: Ints, expected: Floats, n_tested: int
) -> dict[str, np.ndarray]:
    p_above = poisson_above(support, expected)
    columns: dict[str, np.ndarray] = {"shape": np.full(len(support), motifs.shape)}
    for place, end in enumerate("abc"):
        columns[f"layer_{end}"] = edges.features[motifs.features[:, place], 0]
        columns[f"feature_{end}"] = edges.features[motifs.features[:, place], 1]
    return columns | {
        "support": support,
        "n_with_nodes": n_with_nodes,
        "expected": expected,
        "lift": support / expected,
        "p_above": p_above,
        "q_above": benjamini_hochberg(p_above, n_tested),
    }


def _read_recurring(connection: Connection, min_support: int) -> RecurringEdges:
    found = connection.execute(
        "SELECT source_layer, source_feature, target_layer, target_feature, support FROM edge_stats "
        "WHERE source_kind = 'feature' AND target_kind = 'feature' AND support >= ? "
        "AND (source_layer, source_feature) <> (target_layer, target_feature) "
        "ORDER BY source_layer, source_feature, target_layer, target_feature",
        [min_support],
    ).fetchnumpy()
    ends = [
        np.column_stack([found[f"{side}_layer"], found[f"{side}_feature"]]).astype(np.int64).reshape(-1, 2)
        for side in ("source", "target")
    ]
    features, number = np.unique(np.concatenate(ends), axis=0, return_inverse=True)
    source, target = np.split(number.ravel(), 2)
    return RecurringEdges(
        features=features, source=source, target=target, support=np.asarray(found["support"], dtype=np.int64)
    )
