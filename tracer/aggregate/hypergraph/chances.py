"""The length-aware null model: how often would items share a graph if long graphs only held more of everything?

A graph's *length* is its number of distinct items. Item f, in `n_f` graphs, is taken to be in graph g independently of
the others, with a chance that grows with the graph's length:

* closed form (Chung and Lu 2002): `n_f len_g / sum(len)`. Used where every item is rare, that is, where even the
  commonest has a chance of at most `RARE` in the longest graph.
* saturating form: `1 - exp(-a_f b_g)`, with `a` and `b` such that items have the supports and graphs the lengths that
  they have. Used otherwise, and then for all items: the closed form gives the common ones chances above 1 and
  `E_ab` above `min(n_a, n_b)`, and rare ones too little in long graphs, since items that every graph holds take up the
  same room in all of them.

The forms agree where both apply. A length is a noisy measure of a graph's room `b`: given `b` it has the mean
`sum_f p_f` and the variance `v = sum_f p_f (1 - p_f)`, and items that are there by chance make the graph longer and so
each other more expected. With `c_f = d p_f / d log b` and `C = sum_f c_f`, the noise moves `p_f` by `c_f / C` for every
item too many. So the sum of `p_a p_b` over graphs is too large by that of `c_a c_b v / C^2`, which is taken off; for
rare items the closed form gives `E_ab = n_a n_b sum(len (len - 1)) / sum(len)^2`. And where graphs are known to hold
some items i, another's chance in them is too large by `(c_f / C) sum_i (1 - p_i)`. Without these corrections
expectations are too large by about one part in the length, and pairs of common items seem to avoid each other.

Items of equal support have equal chances, and so have graphs of equal length: everything is over distinct values only,
whatever the size of the run. One null is fitted to the run or one to each stratum.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from tracer.aggregate.incidence import Floats, Incidence, Ints

RARE = 0.1
"""Largest chance of any item in any graph at which the closed form is used."""
N_LENGTH_BINS = 256
N_SUPPORT_BINS = 512
N_ROUNDS = 30
N_STEPS = 60
CERTAIN = 40.0
"""`1 - exp(-40)` is 1 in double precision."""
ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthAwareNull:
    """Chances of items over graphs grouped by length into cells.

    `cell` [n_graphs] places a graph; `n_graphs` [n_cells] counts a cell's graphs, `rate` [n_cells] is their `b` (in
    closed form `len / sum(len)`), `reach` [n_cells] their `C` and `room` [n_cells] their `C^2 / v`. Both are at least
    1, which keeps corrected chances positive.
    """

    cell: Ints
    n_graphs: Floats
    rate: Floats
    reach: Floats
    room: Floats
    is_closed: bool

    def chances(self, support: Ints) -> Floats:
        """Chance of items of these supports, [n_items], in a graph of each cell, [n_items, n_cells]."""
        return _chances(support.astype(np.float64), self.rate, self.n_graphs, is_closed=self.is_closed)

    def expected_pairs(self, support_a: Ints, support_b: Ints) -> Floats:
        """Graphs expected to hold both items of each pair, given their supports; all [n_pairs]."""
        is_there = np.zeros(max(support_a.max(initial=0), support_b.max(initial=0)) + 1, bool)
        is_there[support_a] = is_there[support_b] = True
        supports, row_of = np.flatnonzero(is_there), np.cumsum(is_there) - 1
        row_a, row_b = row_of[support_a], row_of[support_b]
        chance = self.chances(supports)
        # both terms of p_a p_b - c_a c_b v / C^2 as one product of matrices
        slope = slopes(chance, is_closed=self.is_closed)
        right = np.hstack([chance, slope]).T
        left = np.hstack([chance * self.n_graphs, -slope * (self.n_graphs / self.room)])
        expected = np.empty(len(support_a))
        order = np.argsort(row_a, kind="stable")
        bounds = np.searchsorted(row_a[order], np.arange(0, len(supports) + ROWS_AT_ONCE, ROWS_AT_ONCE))
        for block, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
            pairs = order[start:stop]
            table = left[block * ROWS_AT_ONCE : (block + 1) * ROWS_AT_ONCE] @ right
            expected[pairs] = table[row_a[pairs] - block * ROWS_AT_ONCE, row_b[pairs]]
        return np.maximum(expected, 0.0)


def fit_null(
    support: Ints, length: Ints, n_length_bins: int = N_LENGTH_BINS, *, times: Ints | None = None
) -> LengthAwareNull:
    """Fit the null to the margins of an incidence of items and graphs.

    Args:
        support: for each item the graphs that hold it, [n_items]; 0 is allowed.
        length: for each graph the distinct items that it holds, [n_graphs]; same sum as `support`, above 0.
        n_length_bins: most cells; beyond them graphs of neighbouring lengths share one.
        times: how many graphs each length stands for, [n_graphs]; 1 when not given.
    """
    n_held = length.sum() if times is None else (length * times).sum()
    assert support.sum() == n_held > 0, "supports and lengths count the same incidence"
    lengths, n_graphs, cell = condense(length, n_length_bins, times)
    is_closed = bool(support.max() * lengths.max() / n_held <= RARE)
    supports, n_items, _ = condense(support[support > 0], N_SUPPORT_BINS)
    rate = lengths / n_held if is_closed else _fit_graph_rates(supports, n_items, lengths, n_graphs)
    chance = _chances(supports, rate, n_graphs, is_closed=is_closed)
    noise = n_items @ (chance * (1 - chance))
    reach = n_items @ slopes(chance, is_closed=is_closed)
    room = np.divide(reach**2, noise, out=np.ones(len(noise)), where=noise > 0)
    return LengthAwareNull(
        cell=cell,
        n_graphs=n_graphs,
        rate=rate,
        reach=np.maximum(reach, 1.0),
        room=np.maximum(room, 1.0),
        is_closed=is_closed,
    )


def slopes(chance: Floats, *, is_closed: bool) -> Floats:
    """How fast chances rise with the logarithm of a graph's room, at most as large as the chances."""
    return chance if is_closed else -special.xlog1py(1 - chance, -chance)


def support_in_strata(incidence: Incidence) -> Ints:
    """For each stratum and item the stratum's graphs that hold it, [n_strata, n_items]; strata by ascending number."""
    assert incidence.stratum is not None, "an incidence with strata"
    n_items = incidence.matrix.shape[1]
    bounds = incidence.matrix.indptr
    supports = []
    for stratum in np.unique(incidence.stratum):
        held = np.repeat(incidence.stratum == stratum, np.diff(bounds))
        supports.append(np.bincount(incidence.matrix.indices[held], minlength=n_items))
    return np.array(supports, np.int64).reshape(len(supports), n_items)


def condense(values: Ints, n_bins: int, times: Ints | None = None) -> tuple[Floats, Floats, Ints]:
    """Distinct values with their counts, and the place of each value in them; `times` says how often each counts.

    Beyond `n_bins` neighbours become their mean, so that the sum stays.
    """
    distinct, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    if times is not None:
        counts = np.bincount(place, weights=times)
    bin_of = np.arange(len(distinct)) * min(n_bins, len(distinct)) // max(len(distinct), 1)
    sizes = np.bincount(bin_of, weights=counts).astype(np.float64)
    return np.bincount(bin_of, weights=distinct * counts) / sizes, sizes, bin_of[place]


def _chances(supports: Floats, rate: Floats, n_graphs: Floats, *, is_closed: bool) -> Floats:
    if is_closed:
        return np.minimum(np.outer(supports, rate), 1.0)
    return -np.expm1(-np.outer(_solve_rates(supports, rate, n_graphs), rate))


def _fit_graph_rates(supports: Floats, n_items: Floats, lengths: Floats, n_graphs: Floats) -> Floats:
    """`b` by turns: supports fix `a` given `b`, lengths fix `b` given `a`, until the lengths agree within 1e-5."""
    graph_rate = lengths / lengths.max()
    for _ in range(N_ROUNDS):
        item_rate = _solve_rates(supports, graph_rate, n_graphs)
        fitted = n_items @ -np.expm1(-np.outer(item_rate, graph_rate))
        if np.all(np.abs(fitted - lengths) <= 1e-5 * lengths.max()):
            break
        graph_rate = _solve_rates(lengths, item_rate, n_items)
    return graph_rate


def _solve_rates(targets: Floats, rates: Floats, weights: Floats) -> Floats:
    """For each target the x with `sum_j weights_j (1 - exp(-x rates_j)) = target`.

    Newton's steps from the left of a concave rising function never pass the root. A target that is the whole sum has
    its root at infinity; it gets an x that makes every chance 1 within rounding.
    """
    roots = targets / (weights @ rates)
    whole = targets >= weights[rates > 0].sum() * (1 - 1e-12)
    roots[whole] = CERTAIN / rates[rates > 0].min()
    open_idx = np.flatnonzero(~whole)
    for _ in range(N_STEPS):
        survival = np.exp(-np.outer(roots[open_idx], rates)) * weights
        missing = np.maximum(targets[open_idx] - (weights.sum() - survival.sum(axis=1)), 0.0)
        steps = missing / np.maximum(survival @ rates, np.finfo(float).tiny)
        roots[open_idx] += steps
        if np.all(steps <= 1e-10 * roots[open_idx]):
            break
    return roots
