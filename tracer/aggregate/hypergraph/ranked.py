"""The frequent items of an incidence, the commonest first, by graph and by item: what pairs and sets are counted on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.hypergraph.bits import Words, n_shared, set_bits
from tracer.aggregate.incidence import Incidence, Ints

Places = npt.NDArray[np.integer]
"""Ranks or graphs: of 32 bits, unless there are too many places of an incidence for those."""
GRAPHS_AT_ONCE = 65_536
PLACES_AT_ONCE = 2**24
GRAPHS_PER_BIT = 64
"""A bit for each graph takes no more than twice the 4 bytes for each graph that holds an item in one of so many."""


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
            is_among = np.zeros(len(support), bool)
            is_among[among] = True
            is_frequent &= is_among
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
            kept = np.flatnonzero((ranks >= low) & (ranks < high))
            yield start, ranks[kept], np.searchsorted(kept, bounds - bounds[0])

    def bits(self, incidence: Incidence, n_ranks: int) -> Words:
        """A bit for each graph in the row of each of the commonest ranks that it holds, [n_ranks, n_words]."""
        words = np.zeros((n_ranks, -(-incidence.n_graphs // 64)), np.uint64)
        for start, held, bounds in self.held(incidence, GRAPHS_AT_ONCE, 0, n_ranks):
            set_bits(words, held, start + np.repeat(np.arange(len(bounds) - 1), np.diff(bounds)))
        return words

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
class Partners:
    """Items that share graphs with one item: `ranks` and how many they `shared`, both [n_partners], and in `words`
    [n_partners, n_words] a bit for each of the graphs that they share.
    """

    ranks: Ints
    shared: Ints
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """An incidence of its frequent items alone.

    `item` and `support` [n_ranks] are those of `Ranks`. The commonest have a bit for each graph in `words` [n_common,
    n_words], those in one graph of `GRAPHS_PER_BIT` or more. Only where there are others,
    `by_graph` [n_graphs, n_ranks] and `by_rank` [n_ranks, n_graphs] hold all of them, as CSR arrays with ones of int8,
    each row sorted.
    """

    item: Ints
    support: Ints
    words: Words
    by_graph: sparse.csr_array | None
    by_rank: sparse.csr_array | None

    @classmethod
    def of(cls, incidence: Incidence, min_support: int) -> "Ranked":
        """Keep the items that at least `min_support` graphs hold."""
        ranks = Ranks.of(incidence, min_support)
        n_common = int((ranks.support * GRAPHS_PER_BIT >= incidence.n_graphs).sum())
        words = ranks.bits(incidence, n_common)
        by_graph = by_rank = None
        if n_common < len(ranks.item):
            by_rank = ranks.by_rank(incidence)
            by_graph = by_rank.tocsc().T
        return cls(item=ranks.item, support=ranks.support, words=words, by_graph=by_graph, by_rank=by_rank)

    def partners(self, rank: int, least: int, stop: int) -> Partners:
        """The other items of ranks below `stop` that share at least `least` graphs, which is > 0, with one item."""
        n_common = len(self.words)
        if rank < n_common and (stop <= n_common or self.support[n_common:stop].max(initial=0) < least):
            own = self.words[rank]
            shared = n_shared(self.words[:stop], own)
            shared[rank:][:1] = 0
            ranks = np.flatnonzero(shared >= least)
            words = self.words[ranks]
            words &= own
            return Partners(ranks=ranks, shared=shared[ranks], words=words)
        shared = np.zeros(len(self.item), np.int64)
        for _, rows in self._graphs_of(rank):
            shared += np.bincount(rows.indices, minlength=len(shared))
        shared[rank] = 0
        ranks = np.flatnonzero(shared[:stop] >= least)
        row_of = np.full(len(self.item), -1, np.int32)
        row_of[ranks] = np.arange(len(ranks), dtype=np.int32)
        words = np.zeros((len(ranks), -(-int(self.support[rank]) // 64)), np.uint64)
        for start, rows in self._graphs_of(rank):
            row, graph = row_of[rows.indices], start + np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
            is_partner = row >= 0
            set_bits(words, row[is_partner], graph[is_partner])
        return Partners(ranks=ranks, shared=shared[ranks], words=words)

    def _graphs_of(self, rank: int) -> Iterator[tuple[int, sparse.csr_array]]:
        """What the graphs of an item hold, some of them at a time, and which of its graphs is the first of those."""
        assert self.by_rank is not None, "some items have no bits"
        assert self.by_graph is not None, "some items have no bits"
        graphs = self.by_rank.indices[self.by_rank.indptr[rank] : self.by_rank.indptr[rank + 1]]
        for start in range(0, len(graphs), GRAPHS_AT_ONCE):
            yield start, self.by_graph[graphs[start : start + GRAPHS_AT_ONCE]]
