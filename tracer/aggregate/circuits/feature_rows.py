"""Clusters of features as rows of the circuit tables."""

from dataclasses import dataclass

import numpy as np

from tracer.aggregate.circuits.graph_clusters import cluster_name
from tracer.aggregate.circuits.resampling import in_order_of_size
from tracer.aggregate.circuits.staging import stage
from tracer.aggregate.incidence import Floats, Ints
from tracer.tables.database import Connection

MIN_MEMBERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureClusters:
    """Clusters of features: `features` [n, 2] (layer, feature), `label` [n] with -1 for none, each feature's cosine
    similarity to its centre [n], and the stability of each cluster as `label` numbers it, None where unmeasured.
    """

    features: Ints
    label: Ints
    similarity: Floats
    stability: Floats | None


def stage_feature_clusters(
    connection: Connection,
    found: FeatureClusters,
    *,
    kind: str,
    prefix: str,
    method: str,
    in_value: str | None = None,
) -> None:
    """Stage clusters of `MIN_MEMBERS` features or more, the largest first.

    Support, frequency and influence of a feature are those of the consensus circuit `in_value`, or of the whole run.

    Args:
        connection: the results being built.
        found: the clusters.
        kind: as in `circuits.kind`.
        prefix: of their names.
        method: as in `circuits.method`.
        in_value: the consensus circuit that they are part of.
    """
    names = np.array([f"{layer}:{feature}" for layer, feature in found.features.tolist()], dtype=np.str_)
    numbered = in_order_of_size(found.label, names, MIN_MEMBERS)
    n_clusters = int(numbered.max(initial=-1)) + 1
    if n_clusters == 0:
        return
    measured = _measured(connection, in_value)
    circuits, members = [], []
    for number in range(n_clusters):
        inside = np.flatnonzero(numbered == number)
        circuit_id = cluster_name(prefix, number, n_clusters)
        stability = None if found.stability is None else float(found.stability[found.label[inside[0]]])
        cohesion = float(np.mean(found.similarity[inside]))
        circuits.append({
            "circuit_id": circuit_id,
            "kind": kind,
            "parent_id": in_value,
            "method": method,
            "stability": stability,
            "cohesion": cohesion,
        })
        for place in inside.tolist():
            layer, feature = found.features[place].tolist()
            told = measured[layer, feature]
            weight = float(found.similarity[place])
            members.append(
                {"circuit_id": circuit_id, "kind": "feature", "layer": layer, "feature": feature, "weight": weight}
                | dict(zip(("support", "frequency", "influence_mean"), told, strict=True))
            )
    stage(connection, "circuits", circuits)
    stage(connection, "circuit_members", members)


def _measured(connection: Connection, in_value: str | None) -> dict[tuple[int, int], tuple[int, float, float]]:
    """Support, frequency and mean influence of each feature of a consensus circuit, or of the run."""
    if in_value is None:
        sql = """
            SELECT layer, feature, support, graph_frequency, influence_mean FROM features WHERE support > 0
        """
        found = connection.execute(sql).fetchall()
    else:
        sql = """
            SELECT layer, feature, support, frequency, influence_mean
            FROM staged_circuit_members WHERE kind = 'feature' AND circuit_id = ?
        """
        found = connection.execute(sql, [in_value]).fetchall()
    return {(layer, feature): tuple(told) for layer, feature, *told in found}
