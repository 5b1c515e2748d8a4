"""Question: which graphs are alike in the features that they hold, and which features make up each kind?

Clusters are found on at most `max_graphs` graphs; then all graphs are assigned to the nearest centre, and what each
cluster holds is summed, in one pass over the incidence, some graphs at a time. A graph none of whose
features is known to the sample is in no cluster, nor is one without features. Time and memory of the search do not grow
with the run, but for the axes over all of its features: 8 bytes for each of these and two axes for each cluster.
"""

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.circuits.assigning import Assigned, Clusters, assign_block
from tracer.aggregate.circuits.partition import Partition, Stable, find_partition, hellinger_rows
from tracer.aggregate.circuits.resampling import in_order_of_size
from tracer.aggregate.circuits.samples import WHOLE_RUN, sampled_graphs
from tracer.aggregate.circuits.staging import stage, stage_columns
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.reading import Influences, Numbering, numbering, read_influences
from tracer.aggregate.state import SCHEMA
from tracer.aggregate.tasks import TaskMap
from tracer.config import CircuitConfig
from tracer.tables.database import Connection

DIGITS = 12
"""Weights are rounded, so that the last bits of a sum decide no rank."""
_SAMPLED = f"""
SELECT sampled.graph_idx AS row, layer, feature, influence
FROM {SCHEMA}.incidence JOIN {SCHEMA}.graph_numbers USING (graph_idx) JOIN circuit_sample AS sampled USING (graph_id)
WHERE circuit_id = '=' ORDER BY row, layer, feature, pos
"""
_FEATURES = "SELECT layer, feature, support FROM features WHERE support > 0 ORDER BY layer, feature"


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
    features, support = _read_features(connection)
    numbered_as = numbering(np.pad(features, ((0, 0), (0, 1))))
    influence = _read_sampled(connection, len(sample), numbered_as, len(features))
    known = np.unique(influence.indices).astype(np.int64)
    found = _search(influence[:, known], min_support, settings, seed, run)
    if found is None:
        return
    is_listed = support >= min_support
    ids, assigned = _assign_all(connection, _over_all(found.partition, known, is_listed), numbered_as, run)
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
        _stage_members(connection, name, size, assigned, cluster, features[is_listed], min_support, settings)


def cluster_name(kind: str, number: int, n_clusters: int) -> str:
    """`graphs-03`: as many digits as the largest number needs, at least two."""
    return f"{kind}-{number:0{max(2, len(str(n_clusters - 1)))}}"


def _search(
    influence: sparse.csr_array, min_support: int, settings: CircuitConfig, seed: int, run: TaskMap
) -> Stable | None:
    """The partition of the sampled graphs; None where there is none."""
    rows = hellinger_rows(influence)
    rows = rows[np.flatnonzero(np.diff(rows.indptr))]
    if rows.shape[0] == 0:
        return None
    return find_partition(
        rows,
        max_clusters=settings.max_clusters,
        min_members=min_support,
        n_resamples=settings.n_resamples,
        seed=seed,
        run=run,
    )


def _over_all(partition: Partition, known: Ints, is_listed: npt.NDArray[np.bool_]) -> Clusters:
    """The partition over all features of the run, of which the sample knows those numbered `known`."""
    axes = np.zeros((len(is_listed), len(partition.axes)))
    axes[known] = partition.axes.T
    return Clusters(
        partition=Partition(axes=axes.T, centres=partition.centres),
        listed_place=np.where(is_listed, np.cumsum(is_listed) - 1, -1),
        n_listed=int(is_listed.sum()),
    )


def _read_features(connection: Connection) -> tuple[Ints, Ints]:
    """The run's features [n_features, 2], sorted, and how many graphs hold each."""
    found = connection.execute(_FEATURES).fetchnumpy()
    features = np.column_stack([found["layer"], found["feature"]]).astype(np.int64).reshape(-1, 2)
    return features, np.asarray(found["support"], dtype=np.int64)


def _assign_all(
    connection: Connection, clusters: Clusters, numbered_as: Numbering, run: TaskMap
) -> tuple[np.ndarray, Assigned]:
    """Ids of all graphs in the order of their numbers, and where each belongs."""
    sql = f"SELECT graph_id FROM {SCHEMA}.graph_numbers ORDER BY graph_idx"
    ids = np.asarray(connection.execute(sql).fetchnumpy()["graph_id"], dtype=np.str_)
    blocks = read_influences(connection, len(ids), numbered_as)
    return ids, Assigned.summed(run(assign_block, clusters, blocks), clusters)


def _read_sampled(connection: Connection, n_graphs: int, numbered_as: Numbering, n_features: int) -> sparse.csr_array:
    """Influence in the sampled graphs, [n_graphs, n_features]."""
    found = connection.execute(_SAMPLED).fetchnumpy()
    place = numbered_as(found["layer"], found["feature"], np.zeros(len(found["row"]), np.int64))
    sampled = Influences(row=found["row"], place=place, influence=found["influence"], n_graphs=n_graphs)
    return sampled.matrix(n_features)


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
    stage(
        connection,
        "circuit_members",
        [
            {
                "circuit_id": name,
                "kind": "feature",
                "layer": int(listed[member, 0]),
                "feature": int(listed[member, 1]),
                "support": int(support[member]),
                "frequency": float(support[member] / n_graphs),
                "influence_mean": float(assigned.influence[cluster, member] / support[member]),
                "weight": float(weight[member]) if total > 0 else None,
            }
            for member in chosen.tolist()
        ],
    )
