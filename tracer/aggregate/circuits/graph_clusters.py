"""Question: which graphs are alike in the features that they hold, and which features make up each kind?

Clusters are found on at most `max_graphs` graphs, and the others are assigned to the nearest centre, `GRAPHS_PER_BLOCK`
at a time; a graph none of whose features is known to the sample is in no cluster, nor is one without features. So time
and memory of the search do not grow with the run: with 10,000 graphs of 100 features it takes a minute or two, and a
million graphs take one look through the nodes more for each block.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tracer.aggregate.circuits.partition import Partition, Stable, find_partition, hellinger_rows
from tracer.aggregate.circuits.resampling import in_order_of_size
from tracer.aggregate.circuits.samples import WHOLE_RUN, sampled_graphs
from tracer.aggregate.circuits.staging import stage, stage_columns
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.sql import read_sql
from tracer.aggregate.tasks import TaskMap
from tracer.config import CircuitConfig
from tracer.tables.database import Connection

GRAPHS_PER_BLOCK = 50_000
FEATURE_BITS = 32
_HELD = """
SELECT dense_rank() OVER (ORDER BY graph_id) - 1 AS graph_idx, layer, feature, influence FROM nodes
WHERE kind = 'feature' AND graph_id BETWEEN ? AND ? {only}
ORDER BY graph_id, layer, feature, node_idx
"""
_HOLDING = """
SELECT DISTINCT graph_id FROM nodes WHERE kind = 'feature' AND graph_id BETWEEN ? AND ? {only} ORDER BY graph_id
"""
_IN_SAMPLE = "AND graph_id IN (SELECT graph_id FROM circuit_sample WHERE circuit_id = '=')"

Ids = np.ndarray


def stage_graph_clusters(
    connection: Connection, *, min_support: int, settings: CircuitConfig, seed: int, run: TaskMap
) -> None:
    """Stage clusters of graphs with at least `min_support` graphs each, their graphs and their features.

    Args:
        connection: the results being built; samples drawn.
        min_support: fewest graphs of a cluster, and of a feature in it.
        settings: bounds.
        seed: of the search.
        run: spreads resamples.
    """
    sample = sampled_graphs(connection, WHOLE_RUN)
    found, universe = _search(connection, sample, min_support, settings, seed, run)
    if found is None:
        return
    ids, label, weight = _assign_all(connection, found.partition, universe)
    numbered = in_order_of_size(label, ids, min_support)
    kept = np.flatnonzero(numbered >= 0)
    if len(kept) == 0:
        return
    n_clusters = int(numbered.max()) + 1
    names = np.array([cluster_name("graphs", number, n_clusters) for number in range(n_clusters)])
    stage_columns(
        connection,
        "circuit_graphs",
        {"circuit_id": names[numbered[kept]], "graph_id": ids[kept], "weight": weight[kept]},
    )
    # each listed cluster under the number that the partition gave it
    original = np.array([label[np.flatnonzero(numbered == number)[0]] for number in range(n_clusters)])
    method = (
        f"k-means on {len(found.partition.axes)} singular axes of graphs x features (root influence, unit length), "
        f"{len(found.stability)} clusters chosen by bootstrap stability"
    )
    if len(sample) < len(ids):
        method += f"; found on {len(sample)} graphs sampled by hash, the others assigned to the nearest centre"
    rows = [
        {
            "circuit_id": names[number],
            "kind": "graph_cluster",
            "method": method,
            "n_graphs": int((numbered == number).sum()),
            "stability": float(found.stability[original[number]]),
            "cohesion": float(np.mean(weight[numbered == number])),
        }
        for number in range(n_clusters)
    ]
    stage(connection, "circuits", rows)
    asked = {"min_support": min_support, "max_members": settings.max_members}
    connection.execute(read_sql("circuits/graph_members"), asked)


def cluster_name(kind: str, number: int, n_clusters: int) -> str:
    """`graphs-03`: as many digits as the largest number needs, at least two."""
    return f"{kind}-{number:0{max(2, len(str(n_clusters - 1)))}}"


def _search(
    connection: Connection, sample: Ids, min_support: int, settings: CircuitConfig, seed: int, run: TaskMap
) -> tuple[Stable | None, Ints]:
    """The partition of the sampled graphs, and the codes of the features that its axes are over, sorted."""
    if len(sample) == 0:
        return None, np.zeros(0, np.int64)
    held = _read(connection, sample[0], sample[-1], _IN_SAMPLE)
    universe = np.unique(held.codes)
    found = find_partition(
        _rows(held, universe),
        max_clusters=settings.max_clusters,
        min_members=min_support,
        n_resamples=settings.n_resamples,
        seed=seed,
        run=run,
    )
    return found, universe


def _assign_all(connection: Connection, partition: Partition, universe: Ints) -> tuple[Ids, Ints, Floats]:
    """Ids, clusters and similarities of all graphs with features, sorted by id."""
    everything = np.asarray(
        connection.execute("SELECT graph_id FROM graphs ORDER BY graph_id").fetchnumpy()["graph_id"], dtype=np.str_
    )
    parts: list[tuple[Ids, Ints, Floats]] = []
    for start in range(0, len(everything), GRAPHS_PER_BLOCK):
        block = everything[start : start + GRAPHS_PER_BLOCK]
        held = _read(connection, block[0], block[-1], "")
        parts.append((held.ids, *partition.assign(_rows(held, universe))))
    ids, label, weight = (np.concatenate([part[place] for part in parts]) for place in range(3))
    return ids, label, weight


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Ids of graphs with features, sorted; of each feature node its graph among them, its feature and influence."""

    ids: Ids
    graph: Ints
    codes: Ints
    influence: Floats


def _read(connection: Connection, first: str, last: str, only: str) -> _Held:
    """The feature nodes of graphs from one id to another, in order of graph, feature and node."""
    asked = [str(first), str(last)]
    found = connection.execute(_HELD.format(only=only), asked).fetchnumpy()
    ids = connection.execute(_HOLDING.format(only=only), asked).fetchnumpy()["graph_id"]
    return _Held(
        ids=np.asarray(ids, dtype=np.str_),
        graph=found["graph_idx"].astype(np.int64),
        codes=(found["layer"].astype(np.int64) << FEATURE_BITS) + found["feature"].astype(np.int64),
        influence=found["influence"].astype(np.float64),
    )


def _rows(held: _Held, universe: Ints) -> sparse.csr_array:
    """The graphs' rows over the known features, [n_graphs, n_features]."""
    column = np.minimum(np.searchsorted(universe, held.codes), len(universe) - 1)
    known = universe[column] == held.codes
    places = (held.graph[known], column[known])
    matrix = sparse.coo_array((held.influence[known], places), shape=(len(held.ids), len(universe)))
    return hellinger_rows(sparse.csr_array(matrix))
