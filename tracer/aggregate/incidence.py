"""The incidence of graphs and what they hold, which pairs, sets, clusters and comparisons are all counted from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
PLACES_AT_ONCE = 2**23
FEATURE_BITS = 32


def feature_codes(layer: npt.NDArray[np.integer], feature: npt.NDArray[np.integer]) -> Ints:
    """One number for each feature, in the order of layer and feature."""
    return (layer.astype(np.int64) << FEATURE_BITS) + feature.astype(np.int64)


def places_among(among: Ints, codes: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Where each code is among sorted ones, and whether it is there at all."""
    if len(among) == 0:
        return np.zeros(len(codes), np.int64), np.zeros(len(codes), np.bool_)
    place = np.minimum(np.searchsorted(among, codes), len(among) - 1)
    return place, among[place] == codes


@dataclass(frozen=True, kw_only=True)
class Incidence:
    """Which graph holds which item (a feature, a component, a feature at a position).

    `matrix` [n_graphs, n_items] is a CSR array of int32 with ones alone, each graph's items sorted. `stratum`
    [n_graphs] numbers the graphs' strata; None where there are none.
    """

    matrix: sparse.csr_array
    stratum: Ints | None = None

    @classmethod
    def of(cls, graph_idx: Ints, item_idx: Ints, shape: tuple[int, int], stratum: Ints | None = None) -> "Incidence":
        """The incidence of (graph, item) places, each counted once however often it is given."""
        matrix = sparse.csr_array((np.ones(len(graph_idx), np.int32), (graph_idx, item_idx)), shape=shape)
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return cls(matrix=matrix, stratum=stratum)

    @property
    def n_graphs(self) -> int:
        """Graphs, empty ones too."""
        return self.matrix.shape[0]

    @cached_property
    def support(self) -> Ints:
        """For each item the graphs that hold it, [n_items]; counted once."""
        support = np.zeros(self.matrix.shape[1], np.int64)
        for start in range(0, self.matrix.nnz, PLACES_AT_ONCE):
            # numpy widens what it counts
            support += np.bincount(self.matrix.indices[start : start + PLACES_AT_ONCE], minlength=len(support))
        return support

    @property
    def length(self) -> Ints:
        """For each graph the items that it holds, [n_graphs]."""
        return np.diff(self.matrix.indptr).astype(np.int64)
