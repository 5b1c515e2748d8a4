"""What is compared: columns of an incidence, or pairs of its columns, of which a block at a time is in memory."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tracer.aggregate.hypergraph.pairs import count_pairs
from tracer.aggregate.incidence import Incidence, Ints


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns `idx` [n_items] of an incidence by columns: features, or edges."""

    matrix: sparse.csc_array
    idx: Ints

    @property
    def n_items(self) -> int:
        """Columns."""
        return len(self.idx)

    def block(self, start: int, stop: int) -> sparse.csr_array:
        """Which graph holds which of the items `start` to `stop`: ones, int32 [n_graphs, stop - start]."""
        return self.matrix[:, self.idx[start:stop]].tocsr()


@dataclass(frozen=True, slots=True)
class SharedColumns:
    """Pairs of columns: a graph holds a pair if it holds both; `first` and `second` [n_items] are column indices."""

    matrix: sparse.csc_array
    first: Ints
    second: Ints

    @property
    def n_items(self) -> int:
        """Pairs."""
        return len(self.first)

    def block(self, start: int, stop: int) -> sparse.csr_array:
        """As of `Columns`."""
        one, other = self.matrix[:, self.first[start:stop]], self.matrix[:, self.second[start:stop]]
        return one.multiply(other).tocsr()


Items = Columns | SharedColumns
"""Things that graphs hold or not."""


def frequent_columns(incidence: Incidence, min_support: int) -> Columns:
    """The items that at least `min_support` graphs of both sides together hold.

    The total over both sides decides, never one side's count: a choice that looked at the sides would find
    differences where there are none.
    """
    return Columns(incidence.matrix.tocsc(), np.flatnonzero(incidence.support >= min_support))


def frequent_pairs(incidence: Incidence, min_support: int) -> SharedColumns:
    """The pairs of items that at least `min_support` graphs of both sides together hold."""
    pairs = count_pairs(incidence, min_support)
    return SharedColumns(incidence.matrix.tocsc(), pairs.first, pairs.second)
