"""Samples of graphs by hash of `graph_id`, and what the sampled graphs hold, as sparse matrices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.ends import define_ends
from tracer.aggregate.incidence import Ints
from tracer.aggregate.new_rows import first_rows
from tracer.aggregate.sql import execute_sql, read_sql
from tracer.tables.database import Connection
from tracer.tables.frequency_tables import EDGE_KEY
from tracer.tables.quoting import literal, quoted

_WHOLE_RUN = "SELECT graph_id, '' AS by_column, '' AS by_value, {most} AS most FROM graphs"
_VALUE = """
SELECT graph_id, {name} AS by_column, CAST(prompts.{column} AS VARCHAR) AS by_value, {most} AS most
FROM graphs JOIN prompts USING (prompt_id) WHERE prompts.{column} IS NOT NULL
"""
TEMPORARY = (
    "circuit_values", "circuit_value_sizes", "circuit_sample", "circuit_sampled", "circuit_entered",
    "circuit_edge_numbers", "circuit_graph_edges",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgesInGraphs:
    """What sampled graphs hold: weights and scores of recurring edges, summed over positions, and features.

    `weight` and `score` [n_graphs, n_edges] have their entries where a graph keeps an edge, zeros among them, in the
    same places; the columns are the numbers of `Edges`.
    """

    weight: sparse.csr_array
    score: sparse.csr_array

    @property
    def kept(self) -> sparse.csr_array:
        """Ones where a graph keeps an edge."""
        matrix = self.weight.copy()
        matrix.data = np.ones_like(matrix.data)
        return matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The edges of `edge_stats` in the order of their key.

    `source` and `target` [n_edges] number the ends among `ends` [n_ends, 3] (kind code, layer, feature): features
    come first, sorted, then tokens and logits. `support` and `weight_sum` [n_edges] are over the run.
    """

    ends: Ints
    source: Ints
    target: Ints
    support: Ints
    weight_sum: npt.NDArray[np.float64]

    @property
    def n_features(self) -> int:
        """Features among the ends; the first so many."""
        return int((self.ends[:, 0] == KINDS["feature"]).sum())


KINDS = {"feature": 0, "token": 1, "logit": 2}


def draw_samples(
    connection: Connection, by: Sequence[str], *, max_graphs: int, max_graphs_per_value: int, seed: int
) -> None:
    """Make the temporary tables of what is sampled: `circuit_sample` (the whole run's sample has no value),
    `circuit_value_sizes` (the values, as consensus circuits are named, with their graphs) and, of the sampled graphs,
    `circuit_graph_edges`. The state holds their edges, so that only graphs that are new in the sample are read.
    """
    columns = [_VALUE.format(name=literal(name), column=quoted(name), most=max_graphs_per_value) for name in by]
    queries = " UNION ALL ".join([_WHOLE_RUN.format(most=max_graphs), *columns])
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE circuit_values AS "
        f"SELECT *, by_column || '=' || by_value AS circuit_id FROM ({queries})"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE circuit_value_sizes AS "
        "SELECT circuit_id, by_column, by_value, count(*) AS n_graphs FROM circuit_values GROUP BY ALL"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE circuit_sample AS SELECT circuit_id, graph_id, "
        "row_number() OVER (PARTITION BY circuit_id ORDER BY graph_id) - 1 AS graph_idx "
        "FROM (SELECT circuit_id, graph_id FROM circuit_values QUALIFY row_number() OVER ("
        f"PARTITION BY circuit_id ORDER BY sha256('{int(seed)}:' || graph_id), graph_id) <= most)"
    )
    define_ends(connection)
    execute_sql(connection, "circuits/sampled_graphs")
    execute_sql(connection, "circuits/sampled_edges", **first_rows(connection, "circuit_entered"))
    connection.execute(read_sql("circuits/edge_numbers"))
    connection.execute(read_sql("circuits/graph_edges"))


def drop_samples(connection: Connection) -> None:
    """Drop what `draw_samples` made."""
    for name in TEMPORARY:
        connection.execute(f"DROP TABLE IF EXISTS {name}")


WHOLE_RUN = "="
"""`circuit_id` of the whole run's sample."""


def sampled_graphs(connection: Connection, circuit_id: str) -> np.ndarray:
    """Sorted ids of the sampled graphs of a value (or of the whole run)."""
    found = connection.execute(
        "SELECT graph_id FROM circuit_sample WHERE circuit_id = ? ORDER BY graph_id", [circuit_id]
    ).fetchnumpy()
    return np.asarray(found["graph_id"], dtype=np.str_)


def read_edges(connection: Connection) -> Edges:
    """The recurring edges of the run."""
    found = connection.execute("SELECT * FROM circuit_edge_numbers ORDER BY edge_idx").fetchnumpy()
    codes = []
    for side in ("source", "target"):
        kinds = np.array([KINDS[kind] for kind in found[f"{side}_kind"].tolist()], dtype=np.int64)
        codes.append(np.column_stack([kinds, found[f"{side}_layer"], found[f"{side}_feature"]]).astype(np.int64))
    assert list(found)[1:7] == list(EDGE_KEY), "columns of the key, in its order"
    both = np.concatenate(codes).reshape(-1, 3)
    ends, number = np.unique(both, axis=0, return_inverse=True)
    n_edges = len(codes[0])
    return Edges(
        ends=ends,
        source=number.ravel()[:n_edges],
        target=number.ravel()[n_edges:],
        support=np.asarray(found["support"], dtype=np.int64),
        weight_sum=np.asarray(found["support"] * found["weight_mean"], dtype=np.float64),
    )


def edges_in_graphs(connection: Connection, circuit_id: str, n_graphs: int, n_edges: int) -> EdgesInGraphs:
    """What the sampled graphs of a value hold, in the order of `sampled_graphs`."""
    found = connection.execute(
        "SELECT graph_idx, edge_idx, weight, edge_score FROM circuit_graph_edges "
        "JOIN circuit_sample USING (graph_id) WHERE circuit_id = ? "
        "ORDER BY graph_idx, edge_idx, target_idx, source_idx",
        [circuit_id],
    ).fetchnumpy()
    places, shape = (found["graph_idx"], found["edge_idx"]), (n_graphs, n_edges)
    weight, score = (
        sparse.csr_array(sparse.coo_array((found[name], places), shape=shape)) for name in ("weight", "edge_score")
    )
    weight.sort_indices()
    score.sort_indices()
    return EdgesInGraphs(weight=weight, score=score)
