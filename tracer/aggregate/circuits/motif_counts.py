"""In how many of some graphs is each motif?

Counted by single bits: of some graphs at a time, one row of bits for each edge and each feature; a motif is in the
graphs whose bits are set in all its edges, and its features in those whose bits are set in all of these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tracer.aggregate.circuits.motif_candidates import SHAPES, Motifs
from tracer.aggregate.ends import feature_ends
from tracer.aggregate.hypergraph.bits import WORDS_AT_ONCE, Words, bit_rows, in_all, n_set
from tracer.aggregate.incidence import Ints
from tracer.aggregate.sql import read_sql
from tracer.aggregate.tasks import TaskMap
from tracer.tables.database import Connection

GRAPHS_PER_BLOCK = 8_192
_TEMPORARY = ("wanted_edges", "wanted_features", "motif_counted", "motif_kept", "motif_held")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringEdges:
    """Features [n_features, 2], and edges between them [n_edges], sorted by (source, target), which number features."""

    features: Ints
    source: Ints
    target: Ints
    support: Ints

    @property
    def ends(self) -> tuple[Ints, Ints]:
        """Sources and targets as `end_code` numbers them, [n_edges] each."""
        codes = feature_ends(self.features[:, 0], self.features[:, 1])
        return codes[self.source], codes[self.target]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patterns:
    """What is counted, single edges and motifs: `edges` and `features` [n_patterns, 3] are numbers, some of them twice
    where there are fewer; `shape` [n_patterns] is 0 for an edge, otherwise 1 + the place in `SHAPES`.
    """

    shape: Ints
    edges: Ints
    features: Ints

    @classmethod
    def of(cls, edges: RecurringEdges, motifs: Sequence[Motifs]) -> "Patterns":
        """Every edge, in their order, then the motifs of each shape."""
        alone = np.arange(len(edges.source))
        return cls(
            shape=np.repeat(
                [0, *(1 + SHAPES.index(of.shape) for of in motifs)], [len(alone), *(len(of.edges) for of in motifs)]
            ),
            edges=np.concatenate([alone[:, None][:, [0, 0, 0]], *(of.edges[:, [0, 1, -1]] for of in motifs)]),
            features=np.concatenate([
                np.column_stack([edges.source, edges.target, edges.target]),
                *(of.features for of in motifs),
            ]),
        )

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Patterns":
        """Those that are flagged."""
        return Patterns(shape=self.shape[chosen], edges=self.edges[chosen], features=self.features[chosen])


_Block = tuple[Ints, Ints, Ints, Ints, int]
"""Graph and edge of kept edges, graph and feature of held features, graphs."""


def count_patterns(
    connection: Connection, graphs: str, edges: RecurringEdges, patterns: Patterns, run: TaskMap
) -> Ints:
    """Graphs that keep all edges of each pattern, and those that hold all its features, [2, n_patterns].

    Args:
        connection: the results being built, the state attached, which holds the edges of sampled graphs.
        graphs: table of the `graph_idx` of those that are counted.
        edges: what patterns are made of.
        patterns: what is counted.
        run: spreads blocks of graphs.
    """
    counts = np.zeros((2, len(patterns.shape)), np.int64)
    (n_graphs,) = connection.execute(f"SELECT count(*) FROM {graphs}").fetchall()[0]
    if len(patterns.shape) == 0 or n_graphs == 0:
        return counts
    wanted_edges, wanted_features = np.unique(patterns.edges), np.unique(patterns.features)
    source, target = (of_edges[wanted_edges] for of_edges in edges.ends)
    layer, feature = edges.features[wanted_features].T
    wanted = {
        "wanted_edges": {"source": source, "target": target, "item": np.arange(len(wanted_edges))},
        "wanted_features": {"layer": layer, "feature": feature, "item": np.arange(len(wanted_features))},
    }
    for name, columns in wanted.items():
        # of a table the database knows how few rows it has, and joins with it first
        connection.register("wanted_rows", pa.table(columns))
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM wanted_rows")
        connection.unregister("wanted_rows")
    connection.execute(read_sql("circuits/motif_counts").format(graphs=graphs))
    edge_rows, feature_rows = (
        np.searchsorted(among, members).astype(np.int32)
        for among, members in ((wanted_edges, patterns.edges), (wanted_features, patterns.features))
    )
    for counted in run(_count_block, (edge_rows, feature_rows), _blocks(connection, n_graphs)):
        counts += counted
    for name in _TEMPORARY:
        connection.execute(f"DROP TABLE {name}")
    return counts


def _blocks(connection: Connection, n_graphs: int) -> Iterator[_Block]:
    for start in range(0, n_graphs, GRAPHS_PER_BLOCK):
        size = min(GRAPHS_PER_BLOCK, n_graphs - start)
        places = []
        for name in ("motif_kept", "motif_held"):
            sql = f"SELECT number - ? AS number, item FROM {name} WHERE number >= ? AND number < ?"
            found = connection.execute(sql, [start, start, start + size]).fetchnumpy()
            places += [np.asarray(found["number"]), np.asarray(found["item"])]
        yield places[0], places[1], places[2], places[3], size


def _count_block(shared: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]], block: _Block) -> Ints:
    edge_rows, feature_rows = shared
    edge_graph, edge, feature_graph, feature, n_graphs = block
    return np.array([
        _count_together(bit_rows(item, graph, (int(rows.max()) + 1, n_graphs)), rows)
        for item, graph, rows in ((edge, edge_graph, edge_rows), (feature, feature_graph, feature_rows))
    ])


def _count_together(rows: Words, members: npt.NDArray[np.int32]) -> Ints:
    """Graphs that hold all members of each pattern, [n_patterns]; `rows` [n_items, n_words] are bits of each item."""
    step = max(1, WORDS_AT_ONCE // max(rows.shape[1], 1))
    starts = range(0, len(members), step)
    return np.concatenate([n_set(in_all(rows, members[start : start + step])) for start in starts])
