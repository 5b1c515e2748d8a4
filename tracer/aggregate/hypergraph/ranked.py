"""The frequent items of an incidence, the commonest first, by graph and by item: what pairs and sets are counted on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.incidence import Incidence, Ints

Places = npt.NDArray[np.integer]
"""Ranks or graphs: of 32 bits, unless there are too many places of an incidence for those."""
GRAPHS_AT_ONCE = 65_536
PLACES_AT_ONCE = 2**24


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Frequent items are called by rank: 0 is the commonest, ties in their own order.

    `item` [n_ranks] says which item has a rank, `support` [n_ranks] how many graphs hold it, and `rank_of` [n_items]
    which rank an item has, -1 for one that is not frequent.
    """

    item: Ints
    support: Ints
    rank_of: Places

    @classmethod
    def of(cls, incidence: Incidence, min_support: int, among: Ints | None = None) -> "Ranks":
        """Rank the items that at least `min_support` graphs hold; where `among` is given, only those in it."""
        support = incidence.support
        is_frequent = support >= max(min_support, 1)
        if among is not None:
            is_frequent &= np.isin(np.arange(len(support)), among)
        frequent = np.flatnonzero(is_frequent)
        item = frequent[np.argsort(-support[frequent], kind="stable")]
        rank_of = np.full(len(support), -1, np.int32)
        rank_of[item] = np.arange(len(item), dtype=np.int32)
        return cls(item=item, support=support[item], rank_of=rank_of)

    def held(
        self, incidence: Incidence, n_graphs: int, low: int = 0, high: int | None = None
    ) -> Iterator[tuple[int, Places, Ints]]:
        """Ranks from `low` to `high` - 1 that graphs hold, `n_graphs` graphs at a time.

        Gives the first of the graphs, the ranks in one after another, and where each one's begin (and the end).
        """
        high = len(self.item) if high is None else high
        for start in range(0, incidence.n_graphs, n_graphs):
            bounds = incidence.matrix.indptr[start : start + n_graphs + 1].astype(np.int64)
            ranks = self.rank_of[incidence.matrix.indices[bounds[0] : bounds[-1]]]
            is_kept = (ranks >= low) & (ranks < high)
            kept_before = np.concatenate([[0], np.cumsum(is_kept)])
            yield start, ranks[is_kept], kept_before[bounds - bounds[0]]

    def by_rank(self, incidence: Incidence) -> sparse.csr_array:
        """The graphs of each rank, ascending, as a CSR array [n_ranks, n_graphs] with ones of int8."""
        rank_start = np.concatenate([[0], np.cumsum(self.support)])
        n_places = int(rank_start[-1])
        # scipy keeps the wider of the two kinds of index for both
        kind = np.int32 if n_places <= np.iinfo(np.int32).max else np.int64
        graphs = np.empty(n_places, kind)
        cuts = np.searchsorted(rank_start, np.arange(0, n_places, PLACES_AT_ONCE))
        bounds = np.unique([0, *cuts, len(self.item)])
        # some ranks at a time, since a transposition is out of place
        for low, high in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
            graphs[rank_start[low] : rank_start[high]] = self._graphs_of(incidence, low, high, kind)
        shape = (len(self.item), incidence.n_graphs)
        return sparse.csr_array((np.ones(n_places, np.int8), graphs, rank_start.astype(kind)), shape=shape)

    def _graphs_of(self, incidence: Incidence, low: int, high: int, kind: type[np.integer]) -> Places:
        ranks = np.empty(int(self.support[low:high].sum()), kind)
        graph_start = np.zeros(incidence.n_graphs + 1, kind)
        n_filled = 0
        for start, held, bounds in self.held(incidence, GRAPHS_AT_ONCE, low, high):
            ranks[n_filled : n_filled + len(held)] = held - low
            graph_start[start + 1 : start + len(bounds)] = n_filled + bounds[1:]
            n_filled += len(held)
        shape = (high - low, incidence.n_graphs)
        return sparse.csc_array((np.ones(len(ranks), np.int8), ranks, graph_start), shape=shape).tocsr().indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An incidence of its frequent items alone.

    `item` and `support` [n_ranks] are those of `Ranks`. `by_graph` [n_graphs, n_ranks] and `by_rank`
    [n_ranks, n_graphs] are CSR arrays with ones of int8 alone, each row sorted.
    """

    item: Ints
    support: Ints
    by_graph: sparse.csr_array
    by_rank: sparse.csr_array

    @classmethod
    def of(cls, incidence: Incidence, min_support: int) -> "Ranked":
        """Keep the items that at least `min_support` graphs hold."""
        ranks = Ranks.of(incidence, min_support)
        by_rank = ranks.by_rank(incidence)
        return cls(item=ranks.item, support=ranks.support, by_graph=by_rank.tocsc().T, by_rank=by_rank)

    def graphs_of(self, rank: int) -> Places:
        """The graphs that hold the item of this rank, ascending."""
        return self.by_rank.indices[self.by_rank.indptr[rank] : self.by_rank.indptr[rank + 1]]
