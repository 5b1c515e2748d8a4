"""The frequent items of an incidence, the commonest first, by graph and by item: what pairs and sets are counted on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.incidence import Incidence, Ints

Places = npt.NDArray[np.integer]
"""Ranks or graphs: of 32 bits, unless there are too many places of an incidence for those."""
GRAPHS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An incidence of its frequent items alone, which are called by rank: 0 is the commonest, ties in their own order.

    `item` [n_ranks] says which item has a rank, `support` [n_ranks] how many graphs hold it. `by_graph`
    [n_graphs, n_ranks] and `by_rank` [n_ranks, n_graphs] are CSR arrays with ones of int8 alone, each row sorted.
    """

    item: Ints
    support: Ints
    by_graph: sparse.csr_array
    by_rank: sparse.csr_array

    @classmethod
    def of(cls, incidence: Incidence, min_support: int, among: Ints | None = None) -> "Ranked":
        """Keep the items that at least `min_support` graphs hold; where `among` is given, only those in it."""
        support = incidence.support
        is_frequent = support >= max(min_support, 1)
        if among is not None:
            is_frequent &= np.isin(np.arange(len(support)), among)
        frequent = np.flatnonzero(is_frequent)
        item = frequent[np.argsort(-support[frequent], kind="stable")]
        rank_of = np.full(len(support), -1, np.int32)
        rank_of[item] = np.arange(len(item), dtype=np.int32)
        kept = [_kept_ranks(incidence, rank_of, start) for start in range(0, incidence.n_graphs, GRAPHS_AT_ONCE)]
        ranks = np.concatenate([ranks for ranks, _ in kept] or [np.zeros(0, np.int32)])
        graph_start = np.concatenate([[0], *(n_kept for _, n_kept in kept)]).cumsum()
        del kept
        if graph_start[-1] <= np.iinfo(np.int32).max:
            # scipy keeps the wider of the two kinds of index for both
            graph_start = graph_start.astype(np.int32)
        shape = (len(item), incidence.n_graphs)
        # the data are bytes: the two transpositions, which also sort, carry values along that nobody reads
        by_rank = sparse.csc_array((np.ones(len(ranks), np.int8), ranks, graph_start), shape=shape).tocsr()
        del ranks
        return cls(item=item, support=support[item], by_graph=by_rank.tocsc().T, by_rank=by_rank)

    @property
    def n_graphs(self) -> int:
        """Graphs, those without frequent items too."""
        return self.by_graph.shape[0]

    def graphs_of(self, rank: int) -> Places:
        """The graphs that hold the item of this rank, ascending."""
        return self.by_rank.indices[self.by_rank.indptr[rank] : self.by_rank.indptr[rank + 1]]


def _kept_ranks(incidence: Incidence, rank_of: Places, start: int) -> tuple[Places, Ints]:
    """Ranks in graphs from `start` on, one graph after another, and how many there are in each of the graphs."""
    bounds = incidence.matrix.indptr[start : start + GRAPHS_AT_ONCE + 1].astype(np.int64)
    ranks = rank_of[incidence.matrix.indices[bounds[0] : bounds[-1]]]
    is_kept = ranks >= 0
    kept_before = np.concatenate([[0], np.cumsum(is_kept)])
    return ranks[is_kept], np.diff(kept_before[bounds - bounds[0]])
