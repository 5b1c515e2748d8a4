"""Assigns blocks of graphs to clusters, and sums what the graphs of each cluster hold."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.circuits.partition import Partition, hellinger_rows, nearest
from tracer.aggregate.incidence import Floats, Ints, places_among


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The feature nodes of `n_graphs` graphs: of each its graph among them, its feature's code and its influence."""

    n_graphs: int
    row: npt.NDArray[np.int32]
    code: Ints
    influence: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """A partition, the codes of the features that its axes are over, and those of features to sum, both sorted."""

    partition: Partition
    universe: Ints
    listed: Ints


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
        n_clusters, n_listed = len(clusters.partition.centres), len(clusters.listed)
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


def held_rows(held: Held) -> tuple[sparse.csr_array, Ints]:
    """The graphs' rows as they are clustered, [n_graphs, n_features], and the codes of their columns, sorted."""
    influence, codes = _summed(held)
    return hellinger_rows(influence), codes


def assign_block(clusters: Clusters, held: Held) -> Sums:
    """Assign the graphs of a block, and sum what each cluster holds in it."""
    influence, codes = _summed(held)
    rows = hellinger_rows(influence)
    partition = clusters.partition
    axes = np.zeros((len(partition.axes), len(codes)))
    place, is_known = places_among(clusters.universe, codes)
    axes[:, is_known] = partition.axes[:, place[is_known]]
    label, similarity = nearest(np.asarray(rows @ axes.T), partition.centres)
    cluster = np.repeat(label, np.diff(rows.indptr))
    inside = cluster >= 0
    centre_total = _sums(cluster[inside], rows.data[inside], len(partition.centres))
    place, is_listed = places_among(clusters.listed, codes)
    summed = inside & is_listed[rows.indices]
    wanted = cluster[summed] * len(clusters.listed) + place[rows.indices[summed]]
    key, number = np.unique(wanted, return_inverse=True)
    return Sums(
        label=label,
        similarity=similarity,
        key=key,
        support=np.bincount(number, minlength=len(key)),
        influence=_sums(number, influence.data[summed], len(key)),
        centre=_sums(number, rows.data[summed], len(key)),
        centre_total=centre_total,
    )


def _summed(held: Held) -> tuple[sparse.csr_array, Ints]:
    """Influence summed over positions, [n_graphs, n_features], and the codes of the columns, sorted."""
    codes, column = np.unique(held.code, return_inverse=True)
    matrix = sparse.coo_array((held.influence, (held.row, column)), shape=(held.n_graphs, len(codes)))
    influence = sparse.csr_array(matrix)
    influence.sum_duplicates()
    return influence, codes


def _sums(number: Ints, values: Floats, n_sums: int) -> Floats:
    return np.bincount(number, values, minlength=n_sums).astype(np.float64)
