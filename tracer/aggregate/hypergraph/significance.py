"""Question: which pairs of items share graphs more, or less, often than the length-aware null explains?

Tested are all pairs of items that are in at least `min_support` graphs each; listed are those pairs that share at
least `min_support` graphs. A pair that is tested but not listed enters the Benjamini-Hochberg correction with p = 1,
in both directions: with `m` tested pairs, the listed p-values at rank i give `q = min p_(j) m / j` over j >= i. That
can only raise the q-values of listed pairs, so the false discovery rate stays under control however few are listed.
Pairs that avoid each other so well that they share fewer graphs than `min_support` are not listed and cannot be found
by `q_below`.

The Poisson tails are wider than the truth for items in many graphs, which errs on the side of no discovery. Everything
here follows from supports and lengths: after new graphs it is computed anew without counting old ones again.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import special, stats

from tracer.aggregate.hypergraph.chances import LengthAwareNull, fit_null
from tracer.aggregate.hypergraph.pairs import Pairs
from tracer.aggregate.incidence import Floats, Ints

PAIRS_AT_ONCE = 262_144

Measures = dict[str, np.ma.MaskedArray]


def pair_measures(
    pairs: Pairs,
    *,
    support: Ints,
    length: Ints,
    min_support: int,
    stratum: Ints | None = None,
    stratum_support: Ints | None = None,
) -> Measures:
    """Every column of `PAIR_MEASURES` (`tracer.tables.hypergraph_tables`), by name, [n_pairs] each.

    What is undefined is masked: all `_stratified` columns without strata; jaccard where neither item is in any graph;
    lift and p-values where nothing is expected (and with them npmi and q-values); npmi of a pair that is in every
    graph, since that is no surprise under any null. A pair that shares no graph has the npmi -1, its limit.

    Args:
        pairs: counted pairs, by item.
        support: for each item the graphs that hold it, [n_items].
        length: for each graph the items that it holds, [n_graphs].
        min_support: fewest graphs of an item whose pairs are tested, for the q-values.
        stratum: the number of each graph's stratum, [n_graphs]; None without strata.
        stratum_support: with strata, for each and each item the graphs that hold it, [n_strata, n_items], in
            ascending order of the strata's numbers (`chances.support_in_strata`).
    """
    n_a, n_b, both = support[pairs.first], support[pairs.second], pairs.support
    n_frequent = int((support >= min_support).sum())
    n_tested = n_frequent * (n_frequent - 1) // 2
    either = n_a + n_b - both
    columns: Measures = {
        "n_a": np.ma.array(n_a),
        "n_b": np.ma.array(n_b),
        "support": np.ma.array(both),
        "jaccard": quotient(both, either),
    }
    expected = np.zeros(len(both))
    if support.sum() > 0:
        expected = fit_null(support, length).expected_pairs(n_a, n_b)
    columns |= against(both, expected, len(length), n_tested, "")
    if stratum is None or stratum_support is None:
        return columns | _absent(len(both), "_stratified")
    expected = np.zeros(len(both))
    for number, within in zip(np.unique(stratum), stratum_support, strict=True):
        if within.sum() > 0:
            null: LengthAwareNull = fit_null(within, length[stratum == number])
            expected += null.expected_pairs(within[pairs.first], within[pairs.second])
    return columns | against(both, expected, len(length), n_tested, "_stratified")


def benjamini_hochberg(p: Floats, n_tested: int) -> Floats:
    """q-values of the given p-values among `n_tested` tests, at least as many, the others having p = 1."""
    if len(p) == 0:
        return p
    return np.minimum(stats.false_discovery_control(p, method="bh") * (n_tested / len(p)), 1.0)


def poisson_above(counts: Ints, expected: Floats) -> Floats:
    """Chance of at least as large a count."""
    return _by_parts(special.gammainc, counts, expected)


def poisson_below(counts: Ints, expected: Floats) -> Floats:
    """Chance of at most as large a count."""
    return _by_parts(special.gammaincc, counts + 1, expected)


def _by_parts(function: np.ufunc, counts: Ints, expected: Floats) -> Floats:
    """Apply a function of counts and expectations, some of them on each core at a time."""
    chance = np.empty(len(counts))

    def apply(start: int) -> None:
        part = slice(start, start + PAIRS_AT_ONCE)
        function(counts[part].astype(np.float64), expected[part], out=chance[part])

    with ThreadPoolExecutor() as threads:
        list(threads.map(apply, range(0, len(counts), PAIRS_AT_ONCE)))
    return chance


def quotient(numerator: Floats | Ints, denominator: Floats | Ints) -> np.ma.MaskedArray:
    """Masked where the denominator is 0."""
    undefined = denominator == 0
    values = np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=~undefined)
    return np.ma.array(values, mask=undefined)


def against(both: Ints, expected: Floats, n_graphs: int, n_tested: int, suffix: str = "") -> Measures:
    """What pairs are compared with under one null: expected, lift, npmi, p and q, by name with the suffix.

    Args:
        both: graphs that hold both of each pair, [n_pairs].
        expected: how many the null expects, [n_pairs].
        n_graphs: graphs in all.
        n_tested: pairs that were tested, at least as many as are given.
        suffix: put behind every name.
    """
    nothing_expected = expected <= 0
    lift = quotient(both, expected)
    with np.errstate(divide="ignore"):
        surprise = -np.log(both / max(n_graphs, 1))
        information = np.log(lift.data)
    undefined = nothing_expected | (surprise <= 0)
    npmi = np.divide(information, surprise, out=np.full(len(both), -1.0), where=~undefined & (both > 0))
    columns: Measures = {
        "expected": np.ma.array(expected),
        "lift": lift,
        "npmi": np.ma.array(np.clip(npmi, -1.0, 1.0), mask=undefined),
    }
    tails = [np.where(nothing_expected, 1.0, chance(both, expected)) for chance in (poisson_above, poisson_below)]
    with ThreadPoolExecutor() as threads:  # sorting takes most of it, and lets go of the interpreter
        discoveries = threads.map(lambda p: benjamini_hochberg(p[~nothing_expected], n_tested), tails)
        for name, p, found in zip(("above", "below"), tails, discoveries, strict=True):
            q = np.ones(len(p))
            q[~nothing_expected] = found
            columns |= {
                f"p_{name}": np.ma.array(p, mask=nothing_expected),
                f"q_{name}": np.ma.array(q, mask=nothing_expected),
            }
    return {f"{name}{suffix}": values for name, values in columns.items()}


def _absent(n_pairs: int, suffix: str) -> Measures:
    names = ("expected", "lift", "npmi", "p_above", "p_below", "q_above", "q_below")
    nothing = np.ma.masked_all(n_pairs)
    return {f"{name}{suffix}": nothing for name in names}
