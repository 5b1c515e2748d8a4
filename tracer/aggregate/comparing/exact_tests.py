"""Could a difference be chance? Exact tests item by item, and the correction for many items.

Both tests have few possible outcomes where an item is rare: of an item that five graphs hold, no split can be more
unlikely than all five on one side. An item whose least possible p is above `LEVEL` cannot be significant whatever its
graphs are, and would only make it harder for the others, so it is no test at all (Tarone 1990, "A modified Bonferroni
method for discrete data"). That choice looks at an item's total alone, which says nothing of the sides, so the false
discovery rate among the tested items stays what it is.
"""

import numpy as np
from scipy import special, stats

from tracer.aggregate.hypergraph.significance import benjamini_hochberg
from tracer.aggregate.incidence import Floats, Ints

LEVEL = 0.05
TIE = 1e-7
"""Chances that differ less, relatively, are equal: logarithms of factorials round."""
SMALLEST = np.finfo(float).tiny
"""Stands for p that underflow."""


def fisher(first: Ints, n_first: int, second: Ints, n_second: int) -> tuple[Floats, Floats]:
    """Fisher's exact test, two-sided by adding up all tables that are no likelier than the observed one.

    Cost: for every distinct total one term for each possible split of it.

    Args:
        first: graphs of the first side that hold each item, [n_items].
        n_first: graphs of the first side.
        second: graphs of the second side that hold it, [n_items].
        n_second: graphs of the second side.

    Returns:
        p, and the least p that an item of the same total could have, [n_items] each.
    """
    p, least = np.ones(len(first)), np.ones(len(first))
    log_factorial = special.gammaln(np.arange(n_first + n_second + 1) + 1.0)
    total = first + second
    order = np.argsort(total, kind="stable")
    values, starts = np.unique(total[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    for value, start, end in zip(values.tolist(), starts.tolist(), ends, strict=False):
        items = order[start:end]
        low = max(0, value - n_second)
        chances = _split_chances(value, n_first, n_second, log_factorial)
        p[items], least[items] = chances[first[items] - low], chances.min()
    return np.maximum(p, SMALLEST), np.maximum(least, SMALLEST)


def _split_chances(total: int, n_first: int, n_second: int, log_factorial: Floats) -> Floats:
    """For each number of the item's graphs on the first side, from the least possible on, the two-sided p."""
    here = np.arange(max(0, total - n_second), min(total, n_first) + 1)
    log_chance = _log_choose(n_first, here, log_factorial) + _log_choose(n_second, total - here, log_factorial)
    order = np.argsort(log_chance)
    reached = np.cumsum(np.exp(log_chance[order] - log_chance.max()))
    return reached[np.searchsorted(log_chance[order], log_chance + TIE, side="right") - 1] / reached[-1]


def _log_choose(n: int, k: Ints, log_factorial: Floats) -> Floats:
    return log_factorial[n] - log_factorial[k] - log_factorial[n - k]


def mcnemar(only_first: Ints, only_second: Ints) -> tuple[Floats, Floats]:
    """McNemar's exact test: twice the smaller binomial tail of the pairs that differ; 1 where none does.

    Args:
        only_first: pairs of which the first graph alone holds each item, [n_items].
        only_second: pairs of which the second alone holds it, [n_items].

    Returns:
        p, and the least p that an item with as many differing pairs could have, [n_items] each.
    """
    differing = only_first + only_second
    p = np.minimum(2 * stats.binom.cdf(np.minimum(only_first, only_second), differing, 0.5), 1.0)
    return np.maximum(p, SMALLEST), np.maximum(np.minimum(2 * 0.5**differing, 1.0), SMALLEST)


def q_values(p: Floats, least: Floats) -> Floats:
    """p after Benjamini-Hochberg over the tested items, [n_items]; not a number for those that cannot be significant.

    Args:
        p: of each item, [n_items].
        least: the least p that it could have, [n_items].
    """
    q, tested = np.full(len(p), np.nan), least <= LEVEL
    q[tested] = benjamini_hochberg(p[tested], int(tested.sum()))
    return q
