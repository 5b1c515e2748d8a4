"""Motifs of recurring edges between features: which there may be.

Candidates are combinations of edges that recur, so their number depends on the edges and not on the graphs.
"""

from dataclasses import dataclass

import numpy as np

from tracer.aggregate.incidence import Ints

SHAPES = ("chain", "fan_in", "fan_out", "feed_forward")
"""The state remembers counts by the place of a shape here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Motifs:
    """Candidates of one shape: `edges` [n_motifs, 2 or 3] number edges, `features` [n_motifs, 3] are a, b and c."""

    shape: str
    edges: Ints
    features: Ints

    def where(self, chosen: np.ndarray) -> "Motifs":
        """Those at some places, or flagged."""
        return Motifs(shape=self.shape, edges=self.edges[chosen], features=self.features[chosen])


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """All candidates, a `Motifs` for each of `SHAPES`, and what was left out to keep them few.

    `min_support_combined` is the support from which edges are combined; `n_edges_left_out` counts the edges that were
    left out at an end, for more than `max_edges_per_side` of larger support.
    """

    motifs: tuple[Motifs, ...]
    min_support_combined: int
    n_edges_left_out: int


def find_candidates(
    source: Ints, target: Ints, support: Ints, *, max_edges_per_side: int, max_candidates: int
) -> Candidates:
    """Combine recurring edges.

    At each feature, at most `max_edges_per_side` edges in, and as many out, are combined, those of largest support;
    where that still gives more than `max_candidates` combinations of two edges, edges of larger support alone are
    combined.

    Args:
        source: the feature at which each edge starts, [n_edges]; edges sorted by (source, target), each once.
        target: the feature at which it ends, never the source.
        support: graphs that keep it.
        max_edges_per_side: edges at one side of a feature.
        max_candidates: combinations of two edges.
    """
    into, out_of = (_rank_at(end, support) < max_edges_per_side for end in (target, source))
    supports = np.unique(support)
    low, high = 0, len(supports)
    # the smallest support at which there are few enough
    while low < high:
        middle = (low + high) // 2
        enough = support >= supports[middle]
        if _n_combined(source[out_of & enough], target[into & enough]) <= max_candidates:
            high = middle
        else:
            low = middle + 1
    least = int(supports[low]) if low < len(supports) else int(support.max(initial=0)) + 1
    enough = support >= least
    chains, fans_out, fans_in = (
        _joined(target, source, into & enough, out_of & enough),
        _joined(source, source, out_of & enough, out_of & enough),
        _joined(target, target, into & enough, into & enough),
    )
    # (a -> b, b -> c), and no way round from a to a
    chains = chains[source[chains[:, 0]] != target[chains[:, 1]]]
    fans_out, fans_in = (pairs[pairs[:, 0] < pairs[:, 1]] for pairs in (fans_out, fans_in))
    abc = np.column_stack([source[chains[:, 0]], target[chains[:, 0]], target[chains[:, 1]]])
    closing = _edge_between(source, target, abc[:, 0], abc[:, 2])
    closed = (closing >= 0) & enough[closing]
    motifs = (
        Motifs(shape="chain", edges=chains, features=abc),
        Motifs(
            shape="fan_in",
            edges=fans_in,
            features=np.column_stack([source[fans_in[:, 0]], source[fans_in[:, 1]], target[fans_in[:, 0]]]),
        ),
        Motifs(
            shape="fan_out",
            edges=fans_out,
            features=np.column_stack([source[fans_out[:, 0]], target[fans_out[:, 0]], target[fans_out[:, 1]]]),
        ),
        Motifs(
            shape="feed_forward",
            edges=np.column_stack([chains[closed], closing[closed]]),
            features=abc[closed],
        ),
    )
    return Candidates(motifs=motifs, min_support_combined=least, n_edges_left_out=int((~into).sum() + (~out_of).sum()))


def _rank_at(end: Ints, support: Ints) -> Ints:
    """Place of each edge among those at the same feature, the largest support first, ties in the edges' order."""
    order = np.lexsort((np.arange(len(end)), -support, end))
    starts = np.searchsorted(end[order], end[order])
    rank = np.empty(len(end), np.int64)
    rank[order] = np.arange(len(end)) - starts
    return rank


def _n_combined(starting: Ints, ending: Ints) -> int:
    """Combinations of two edges at a feature: in and out, two in, two out."""
    most = int(max(starting.max(initial=-1), ending.max(initial=-1))) + 1
    n_out, n_in = np.bincount(starting, minlength=most), np.bincount(ending, minlength=most)
    return int((n_in * n_out + n_out * (n_out - 1) // 2 + n_in * (n_in - 1) // 2).sum())


def _joined(first_at: Ints, second_at: Ints, first: np.ndarray, second: np.ndarray) -> Ints:
    """Pairs of flagged edges that meet at a feature, [n_pairs, 2]."""
    one, other = np.flatnonzero(first), np.flatnonzero(second)
    other = other[np.argsort(second_at[other], kind="stable")]
    start = np.searchsorted(second_at[other], first_at[one], side="left")
    stop = np.searchsorted(second_at[other], first_at[one], side="right")
    sizes = stop - start
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.column_stack([np.repeat(one, sizes), other[np.repeat(start, sizes) + within]]).astype(np.int64)


def _edge_between(source: Ints, target: Ints, start: Ints, stop: Ints) -> Ints:
    """The edge from each start to each stop; -1 where there is none."""
    width = int(max(source.max(initial=0), target.max(initial=0), start.max(initial=0), stop.max(initial=0))) + 1
    codes, wanted = source * width + target, start * width + stop
    if len(codes) == 0:
        return np.full(len(wanted), -1, np.int64)
    place = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    return np.where(codes[place] == wanted, place, -1)
