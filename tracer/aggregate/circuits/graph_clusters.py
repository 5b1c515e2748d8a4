"""Question: which graphs are alike in the features that they hold, and which features make up each kind?

Clusters are found on at most `max_graphs` graphs; then all graphs are assigned to the nearest centre, and what each
cluster holds is summed, in one pass over the incidence, `GRAPHS_PER_BLOCK` graphs at a time. A graph none of whose
features is known to the sample is in no cluster, nor is one without features. Time and memory of the search do not grow
with the run.
"""

import numpy as np

from tracer.aggregate.circuits.assigning import (
    Assigned,
    Clusters,
    Held,
    assign_block,
    held_rows,
)
from tracer.aggregate.circuits.partition import Stable, find_partition
from tracer.aggregate.circuits.resampling import in_order_of_size
from tracer.aggregate.circuits.samples import WHOLE_RUN, sampled_graphs
from tracer.aggregate.circuits.staging import stage, stage_columns
from tracer.aggregate.incidence import Floats, Ints, coded_places, feature_codes
from tracer.aggregate.state import SCHEMA
from tracer.aggregate.tasks import TaskMap
from tracer.config import CircuitConfig
from tracer.tables.database import Connection

GRAPHS_PER_BLOCK = 25_000
DIGITS = 12
"""Weights are rounded, so that the last bits of a sum decide no rank."""
_SAMPLED = f"""
SELECT sampled.graph_idx AS row, layer, feature, influence
FROM {SCHEMA}.incidence JOIN {SCHEMA}.graph_numbers USING (graph_idx) JOIN circuit_sample AS sampled USING (graph_id)
WHERE circuit_id = '=' ORDER BY row, layer, feature, pos
"""
_BLOCK = f"""
SELECT graph_idx - $first AS row, layer, feature, influence FROM {SCHEMA}.incidence
WHERE graph_idx >= $first AND graph_idx < $first + $n_graphs
"""


def stage_graph_clusters(
    connection: Connection, *, min_support: int, settings: CircuitConfig, seed: int, run: TaskMap
) -> None:
    """Stage clusters of graphs with at least `min_support` graphs each, their graphs and their features.

    Args:
        connection: the results being built, the state attached; samples drawn.
        min_support: fewest graphs of a cluster, and of a feature in it.
        settings: bounds.
        seed: of the search.
        run: spreads resamples, and blocks of graphs.
    """
    sample = sampled_graphs(connection, WHOLE_RUN)
    found, universe = _search(connection, len(sample), min_support, settings, seed, run)
    if found is None:
        return
    clusters = Clusters(
        partition=found.partition, universe=universe, listed=_recurring_features(connection, min_support)
    )
    ids, assigned = _assign_all(connection, clusters, run)
    numbered = in_order_of_size(assigned.label, ids, min_support)
    kept = np.flatnonzero(numbered >= 0)
    if len(kept) == 0:
        return
    n_clusters = int(numbered.max()) + 1
    names = np.array([cluster_name("graphs", number, n_clusters) for number in range(n_clusters)])
    stage_columns(
        connection,
        "circuit_graphs",
        {"circuit_id": names[numbered[kept]], "graph_id": ids[kept], "weight": assigned.similarity[kept]},
    )
    # each listed cluster under the number that the partition gave it
    original = np.zeros(n_clusters, np.int64)
    original[numbered[kept]] = assigned.label[kept]
    method = (
        f"k-means on {len(found.partition.axes)} singular axes of graphs x features (root influence, unit length), "
        f"{len(found.stability)} clusters chosen by bootstrap stability"
    )
    if len(sample) < len(ids):
        method += f"; found on {len(sample)} graphs sampled by hash, the others assigned to the nearest centre"
    sizes = np.bincount(numbered[kept], minlength=n_clusters)
    rows = [
        {
            "circuit_id": names[number],
            "kind": "graph_cluster",
            "method": method,
            "n_graphs": int(sizes[number]),
            "stability": float(found.stability[original[number]]),
            "cohesion": float(np.mean(assigned.similarity[numbered == number])),
        }
        for number in range(n_clusters)
    ]
    stage(connection, "circuits", rows)
    for name, cluster, size in zip(names.tolist(), original.tolist(), sizes.tolist(), strict=True):
        _stage_members(connection, name, size, assigned, cluster, clusters.listed, min_support, settings)


def cluster_name(kind: str, number: int, n_clusters: int) -> str:
    """`graphs-03`: as many digits as the largest number needs, at least two."""
    return f"{kind}-{number:0{max(2, len(str(n_clusters - 1)))}}"


def _search(
    connection: Connection, n_graphs: int, min_support: int, settings: CircuitConfig, seed: int, run: TaskMap
) -> tuple[Stable | None, Ints]:
    """The partition of the sampled graphs, and the codes of the features that its axes are over, sorted."""
    held = _read(connection, _SAMPLED, {}, n_graphs)
    if len(held.row) == 0:
        return None, np.zeros(0, np.int64)
    rows, universe = held_rows(held)
    rows = rows[np.flatnonzero(np.diff(rows.indptr))]
    found = find_partition(
        rows,
        max_clusters=settings.max_clusters,
        min_members=min_support,
        n_resamples=settings.n_resamples,
        seed=seed,
        run=run,
    )
    return found, universe


def _recurring_features(connection: Connection, min_support: int) -> Ints:
    """The codes of the features that enough graphs hold, sorted."""
    sql = "SELECT layer, feature FROM features WHERE support >= ?"
    found = connection.execute(sql, [min_support]).fetchnumpy()
    return np.sort(feature_codes(found["layer"], found["feature"]))


def _assign_all(connection: Connection, clusters: Clusters, run: TaskMap) -> tuple[np.ndarray, Assigned]:
    """Ids of all graphs in the order of their numbers, and where each belongs."""
    sql = f"SELECT graph_id FROM {SCHEMA}.graph_numbers ORDER BY graph_idx"
    ids = np.asarray(connection.execute(sql).fetchnumpy()["graph_id"], dtype=np.str_)
    starts = range(0, len(ids), GRAPHS_PER_BLOCK)
    sizes = (min(GRAPHS_PER_BLOCK, len(ids) - start) for start in starts)
    blocks = (
        _read(connection, _BLOCK, {"first": start, "n_graphs": size}, size)
        for start, size in zip(starts, sizes, strict=True)
    )
    return ids, Assigned.summed(run(assign_block, clusters, blocks), clusters)


def _read(connection: Connection, sql: str, asked: dict[str, int], n_graphs: int) -> Held:
    found = connection.execute(sql, asked).fetchnumpy()
    return Held(
        n_graphs=n_graphs,
        row=found["row"].astype(np.int32),
        code=feature_codes(found["layer"], found["feature"]),
        influence=found["influence"].astype(np.float64),
    )


def _stage_members(
    connection: Connection,
    name: str,
    n_graphs: int,
    assigned: Assigned,
    cluster: int,
    listed: Ints,
    min_support: int,
    settings: CircuitConfig,
) -> None:
    """Stage the features of one cluster that have most of its centre's weight."""
    support = assigned.support[cluster]
    total = assigned.centre_total[cluster]
    weight: Floats = np.round(assigned.centre[cluster] / total, DIGITS) if total > 0 else np.full(len(listed), np.nan)
    # a stable sort leaves ties in the order of layer and feature
    order = np.argsort(-weight, kind="stable")
    chosen = order[support[order] >= min_support][: settings.max_members]
    layer, feature = coded_places(listed[chosen])
    stage(
        connection,
        "circuit_members",
        [
            {
                "circuit_id": name,
                "kind": "feature",
                "layer": int(layer[place]),
                "feature": int(feature[place]),
                "support": int(support[member]),
                "frequency": float(support[member] / n_graphs),
                "influence_mean": float(assigned.influence[cluster, member] / support[member]),
                "weight": float(weight[member]) if total > 0 else None,
            }
            for place, member in enumerate(chosen.tolist())
        ],
    )
