"""Assigns blocks of graphs to clusters, and sums what the graphs of each cluster hold."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tracer.aggregate.circuits.partition import Partition, hellinger_rows
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.reading import Influences


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """A partition over the run's features, axes being 0 at those that its graphs do not hold; `listed_place`
    [n_features] is the place of each feature among the `n_listed` that are summed, -1 for others.
    """

    partition: Partition
    listed_place: Ints
    n_listed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldByCluster:
    """What the graphs of a cluster hold in a block: of the listed features at `place` [n] graphs, influence and sum of
    unit rows; and the sum of unit rows over all features.
    """

    cluster: int
    place: Ints
    support: Ints
    influence: Floats
    centre: Floats
    centre_total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """One block: `label` and `similarity` [n_graphs], and what each cluster holds that has graphs in it."""

    label: Ints
    similarity: Floats
    held: tuple[HeldByCluster, ...]


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
        shape = (len(clusters.partition.centres), clusters.n_listed)
        support, influence, centre = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape)
        total = np.zeros(shape[0])
        labels: list[Ints] = [np.zeros(0, np.int64)]
        similarities: list[Floats] = [np.zeros(0)]
        for block in blocks:
            labels.append(block.label)
            similarities.append(block.similarity)
            for held in block.held:
                support[held.cluster, held.place] += held.support
                influence[held.cluster, held.place] += held.influence
                centre[held.cluster, held.place] += held.centre
                total[held.cluster] += held.centre_total
        return cls(
            label=np.concatenate(labels),
            similarity=np.concatenate(similarities),
            support=support,
            influence=influence,
            centre=centre,
            centre_total=total,
        )


def assign_block(clusters: Clusters, influences: Influences) -> Sums:
    """Assign some graphs, and sum what each cluster holds in them."""
    influence = influences.matrix(len(clusters.listed_place))
    rows = hellinger_rows(influence)
    label, similarity = clusters.partition.assign(rows)
    held = []
    for cluster in np.unique(label[label >= 0]).tolist():
        graphs = np.flatnonzero(label == cluster)
        unit, kept = rows[graphs], influence[graphs]
        place = clusters.listed_place[unit.indices]
        is_listed = place >= 0
        place = place[is_listed]
        support = np.bincount(place)
        some = np.flatnonzero(support)
        of_cluster = HeldByCluster(
            cluster=cluster,
            place=some,
            support=support[some],
            influence=np.bincount(place, kept.data[is_listed])[some].astype(np.float64),
            centre=np.bincount(place, unit.data[is_listed])[some].astype(np.float64),
            centre_total=float(unit.data.sum()),
        )
        held.append(of_cluster)
    return Sums(label=label, similarity=similarity, held=tuple(held))
