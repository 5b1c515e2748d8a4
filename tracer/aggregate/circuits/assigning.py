"""Assigns blocks of graphs to clusters, and sums what the graphs of each cluster hold."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tracer.aggregate.circuits.partition import Partition, hellinger_rows
from tracer.aggregate.incidence import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """A partition over the run's features, axes being 0 at those that its graphs do not hold; `listed_place`
    [n_features] is the place of each feature among the `n_listed` that are summed, -1 for others.
    """

    partition: Partition
    listed_place: Ints
    n_listed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """One block: `label` and `similarity` [n_graphs]; of each (cluster, listed feature) that occurs, by its `key`
    (cluster * n_listed + place), graphs, influence and share of unit rows; and all unit rows' sum by cluster.
    """

    label: Ints
    similarity: Floats
    key: Ints
    support: Ints
    influence: Floats
    centre: Floats
    centre_total: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Assigned:
    """Of all graphs the cluster, -1 for none, and the cosine similarity to its centre; of clusters x listed features
    graphs, influence and sum of unit rows; `centre_total` [n_clusters] sums over all features.
    """

    label: Ints
    similarity: Floats
    support: Ints
    influence: Floats
    centre: Floats
    centre_total: Floats

    @classmethod
    def summed(cls, blocks: Iterable[Sums], clusters: Clusters) -> "Assigned":
        """All blocks together, in their order."""
        n_clusters, n_listed = len(clusters.partition.centres), clusters.n_listed
        support = np.zeros(n_clusters * n_listed, np.int64)
        influence, centre = np.zeros(n_clusters * n_listed), np.zeros(n_clusters * n_listed)
        total = np.zeros(n_clusters)
        labels: list[Ints] = [np.zeros(0, np.int64)]
        similarities: list[Floats] = [np.zeros(0)]
        for block in blocks:
            labels.append(block.label)
            similarities.append(block.similarity)
            support[block.key] += block.support
            influence[block.key] += block.influence
            centre[block.key] += block.centre
            total += block.centre_total
        shape = (n_clusters, n_listed)
        return cls(
            label=np.concatenate(labels),
            similarity=np.concatenate(similarities),
            support=support.reshape(shape),
            influence=influence.reshape(shape),
            centre=centre.reshape(shape),
            centre_total=total,
        )


def assign_block(clusters: Clusters, influence: sparse.csr_array) -> Sums:
    """Assign the graphs of a block, and sum what each cluster holds in it.

    Args:
        clusters: where graphs may belong.
        influence: of each feature in each graph, summed over positions, [n_graphs, n_features].
    """
    n_clusters = len(clusters.partition.centres)
    rows = hellinger_rows(influence)
    label, similarity = clusters.partition.assign(rows)
    cluster = np.repeat(label, np.diff(rows.indptr))
    inside = cluster >= 0
    centre_total = np.bincount(cluster[inside], rows.data[inside], minlength=n_clusters)
    place = clusters.listed_place[rows.indices]
    summed = inside & (place >= 0)
    wanted = cluster[summed] * clusters.n_listed + place[summed]
    support = np.bincount(wanted)
    key = np.flatnonzero(support)
    return Sums(
        label=label,
        similarity=similarity,
        key=key,
        support=support[key],
        influence=np.bincount(wanted, influence.data[summed])[key].astype(np.float64),
        centre=np.bincount(wanted, rows.data[summed])[key].astype(np.float64),
        centre_total=centre_total.astype(np.float64),
    )
