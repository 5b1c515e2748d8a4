"""Question: which patterns of two or three edges between features recur, beyond what their edges and nodes explain?

A motif counts in a graph that keeps all its edges, at any positions; a chain counts also where a -> c is kept, and two
edges of a motif need not meet at one position. Edges that recur (in `edge_stats`) are combined, within the bounds of
`MotifConfig`; what bit is written into the comment of the table, logged, and returned. `expected` holds the features
fixed: graphs with all three, times for each edge the share of the graphs with both its ends that keep it.

Where graphs are sampled (by hash), support, nodes and expectation are all of the sample. A candidate that is in fewer
than `min_support` graphs is tested with p = 1, so q-values are over all candidates of a shape.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.aggregate.circuits.motif_counts import Candidates, Motifs, bit_rows, count_together, find_candidates
from tracer.aggregate.ends import define_ends
from tracer.aggregate.hypergraph.significance import benjamini_hochberg, poisson_above
from tracer.aggregate.incidence import Floats, Ints, feature_codes, places_among
from tracer.aggregate.sql import read_sql
from tracer.aggregate.tasks import TaskMap, in_process
from tracer.config import MotifConfig
from tracer.tables.building import create_table, insert_columns
from tracer.tables.database import Connection
from tracer.tables.quoting import literal
from tracer.tables.schema import TABLES

logger = logging.getLogger(__name__)

GRAPHS_PER_BLOCK = 8_192
DEFAULTS = MotifConfig()
_TEMPORARY = ("motif_graphs", "motif_features", "motif_edges")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recurring:
    """Features [n_features, 2], and edges between them, sorted by (source, target)."""

    features: Ints
    source: Ints
    target: Ints
    support: Ints


_Block = tuple[Ints, Ints, Ints, Ints, int]
"""Graph and feature of nodes, graph and edge of edges, graphs."""


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
        connection: the results being built, with `graphs`, `nodes`, `edges` and `edge_stats` in it.
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
    asked = {"seed": str(seed), "max_graphs": settings.max_graphs}
    define_ends(connection)
    for statement in read_sql("circuits/motif_edges").split(";\n")[:-1]:
        connection.execute(statement, {name: value for name, value in asked.items() if f"${name}" in statement})
    (n_counted,), (n_graphs,) = (
        connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0] for table in ("motif_graphs", "graphs")
    )
    if len(edges.source):
        _insert(connection, edges, found, min_support, n_counted, run)
    for name in _TEMPORARY:
        connection.execute(f"DROP TABLE {name}")
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
    connection: Connection, edges: _Recurring, found: Candidates, min_support: int, n_graphs: int, run: TaskMap
) -> None:
    n_shapes = len(found.motifs)
    shared = (edges, found.motifs)
    totals: list[Ints] | None = None
    for counted in run(_count_block, shared, _blocks(connection, edges, n_graphs)):
        totals = counted if totals is None else [sum_ + part for sum_, part in zip(totals, counted, strict=True)]
    assert totals is not None, "edges without graphs"
    support, n_with_ends = totals[-2], totals[-1]
    for motifs, n_motif, n_with_nodes in zip(found.motifs, totals[:n_shapes], totals[n_shapes:], strict=False):
        listed = np.flatnonzero(n_motif >= min_support)
        if len(listed):
            some = motifs.where(listed)
            expected = expected_support(n_with_nodes[listed], support, n_with_ends, some.edges)
            columns = _columns(edges, some, n_motif[listed], n_with_nodes[listed], expected, len(motifs.edges))
            insert_columns(connection, TABLES["motifs"], columns)


def _columns(
    edges: _Recurring, motifs: Motifs, support: Ints, n_with_nodes: Ints, expected: Floats, n_tested: int
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


def _count_block(shared: tuple[_Recurring, tuple[Motifs, ...]], block: _Block) -> list[Ints]:
    """Of each shape the graphs of each candidate, then those with its features; then those of edges, and of ends."""
    edges, shapes = shared
    node_graph, node_feature, edge_graph, edge, n_graphs = block
    edge_bits = bit_rows(edge, edge_graph, len(edges.source), n_graphs)
    node_bits = bit_rows(node_feature, node_graph, len(edges.features), n_graphs)
    ends = np.column_stack([edges.source, edges.target])
    return [
        *(count_together(edge_bits, motifs.edges) for motifs in shapes),
        *(count_together(node_bits, motifs.features) for motifs in shapes),
        count_together(edge_bits, np.arange(len(edges.source))[:, None]),
        count_together(node_bits, ends),
    ]


def _read_recurring(connection: Connection, min_support: int) -> _Recurring:
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
    return _Recurring(
        features=features, source=source, target=target, support=np.asarray(found["support"], dtype=np.int64)
    )


def _blocks(connection: Connection, edges: _Recurring, n_graphs: int) -> Iterator[_Block]:
    """What some graphs at a time hold of the recurring edges and their ends."""
    codes = edges.source * len(edges.features) + edges.target
    for start in range(0, n_graphs, GRAPHS_PER_BLOCK):
        size = min(GRAPHS_PER_BLOCK, n_graphs - start)
        asked = [start, start + size]
        nodes = connection.execute(
            "SELECT graph_idx, layer, feature FROM motif_features WHERE graph_idx >= ? AND graph_idx < ?", asked
        ).fetchnumpy()
        kept = connection.execute(
            "SELECT * FROM motif_edges WHERE graph_idx >= ? AND graph_idx < ?", asked
        ).fetchnumpy()
        node = _number(edges.features, nodes["layer"], nodes["feature"])
        source, target = (
            _number(edges.features, kept[f"{side}_layer"], kept[f"{side}_feature"]) for side in ("source", "target")
        )
        wanted = source * len(edges.features) + target
        place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        there = (source >= 0) & (target >= 0) & (codes[place] == wanted)
        yield (
            (nodes["graph_idx"] - start)[node >= 0],
            node[node >= 0],
            (kept["graph_idx"] - start)[there],
            place[there],
            size,
        )


def _number(features: Ints, layer: npt.NDArray[np.integer], feature: npt.NDArray[np.integer]) -> Ints:
    """The number of each feature; -1 for others."""
    place, is_known = places_among(feature_codes(features[:, 0], features[:, 1]), feature_codes(layer, feature))
    return np.where(is_known, place, -1)
