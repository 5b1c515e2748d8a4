"""The length-aware null model: how often would two features share a graph if long graphs only held more of all?

A graph's *length* is its number of distinct features. Feature f, in `n_f` graphs, is taken to be in graph g
independently of the others, with a chance that grows with the graph's length:

* closed form (Chung and Lu 2002): `n_f len_g / sum(len)`, so that `E_ab = n_a n_b sum(len^2) / sum(len)^2`. Used
  where every feature is rare, that is, where even the commonest has a chance of at most `RARE` in the longest graph.
* saturating form: `1 - exp(-a_f b_g)`, with `a` and `b` such that features have the supports and graphs the lengths
  that they have. Used otherwise, and then for all features: the closed form gives the common ones chances above 1 and
  `E_ab` above `min(n_a, n_b)`, and rare ones too little in long graphs, since features that every graph holds take up
  the same room in all of them (with rare pairs kept in
  closed form, hundreds of false discoveries in simulated graphs of independent features).

The forms agree where both apply. Features of equal support have equal chances, and so have graphs of equal length:
the fit is over distinct values only, whatever the size of the run. `tracer.aggregate.hypergraph.cooccurrence` fits one null to
the run or one to each stratum.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RARE = 0.1
"""Largest chance of any feature in any graph at which the closed form is used."""
N_LENGTH_BINS = 256
N_SUPPORT_BINS = 512
N_ROUNDS = 30
N_STEPS = 60
CERTAIN = 40.0
"""`1 - exp(-40)` is 1 in double precision."""
PAIRS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthAwareNull:
    """Chances of features over graphs grouped by length.

    `chance` [supports, lengths] is for each distinct support and length; `row` [n_features] places a feature in it;
    `n_graphs` [lengths] counts the graphs of each length.
    """

    row: Ints
    chance: Floats
    n_graphs: Floats

    def expected(self, first: Ints, second: Ints) -> Floats:
        """Expected number of graphs that hold both features of each pair of feature indices: `sum_g p_ag p_bg`."""
        expected = np.zeros(len(first))
        for start in range(0, len(first), PAIRS_AT_ONCE):
            pairs = slice(start, start + PAIRS_AT_ONCE)
            one, other = self.chance[self.row[first[pairs]]], self.chance[self.row[second[pairs]]]
            expected[pairs] = np.einsum("pl,pl,l->p", one, other, self.n_graphs)
        return expected


def fit_null(support: Ints, length: Ints) -> LengthAwareNull:
    """Fit the null to the margins of an incidence of features and graphs.

    Args:
        support: for each feature the graphs that hold it, [n_features]; 0 is allowed.
        length: for each graph the distinct features that it holds, [n_graphs]; same sum as `support`.
    """
    assert support.sum() == length.sum() > 0, "supports and lengths count the same incidence"
    supports, row = np.unique(support, return_inverse=True)
    lengths, n_graphs = condense(length, N_LENGTH_BINS)
    chance = np.outer(supports, lengths) / length.sum()
    if chance.max() > RARE:
        graph_rate = _fit_graph_rates(support, lengths, n_graphs)
        feature_rate = _solve_rates(supports.astype(float), graph_rate, n_graphs)
        chance = -np.expm1(-np.outer(feature_rate, graph_rate))
    return LengthAwareNull(row=row, chance=chance, n_graphs=n_graphs)


def condense(values: Ints, n_bins: int) -> tuple[Floats, Floats]:
    """Distinct values with their counts; beyond `n_bins` neighbours become their mean, so that the sum stays."""
    distinct, counts = np.unique(values, return_counts=True)
    bin_of = np.arange(len(distinct)) * min(n_bins, len(distinct)) // len(distinct)
    sizes = np.bincount(bin_of, weights=counts).astype(np.float64)
    return np.bincount(bin_of, weights=distinct * counts) / sizes, sizes


def _fit_graph_rates(support: Ints, lengths: Floats, n_graphs: Floats) -> Floats:
    """`b` by turns: supports fix `a` given `b`, lengths fix `b` given `a`, until the lengths agree within 1e-5."""
    supports, n_features = condense(support[support > 0], N_SUPPORT_BINS)
    graph_rate = lengths / lengths.max()
    for _ in range(N_ROUNDS):
        feature_rate = _solve_rates(supports, graph_rate, n_graphs)
        fitted = n_features @ -np.expm1(-np.outer(feature_rate, graph_rate))
        if np.all(np.abs(fitted - lengths) <= 1e-5 * lengths.max()):
            break
        graph_rate = _solve_rates(lengths, feature_rate, n_features)
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
