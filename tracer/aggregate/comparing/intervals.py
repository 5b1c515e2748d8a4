"""How much two sides differ: intervals of differences of frequencies, and Cohen's effect size.

Intervals are the hybrid score ones of Newcombe (1998): method 10 of "Interval estimation for the difference between
independent proportions", Statist. Med. 17, 873-890, and method 10 of "Improved confidence intervals for the difference
between binomial proportions based on paired data", Statist. Med. 17, 2635-2650. Both put the two sides' Wilson
intervals together; unlike the textbook interval they have a width where a frequency is 0 or 1, and stay in [-1, 1].
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

from tracer.aggregate.incidence import Floats, Ints

LEVEL = 0.95
Z = float(stats.norm.ppf((1 + LEVEL) / 2))
Counts = Ints | Floats


def share(hits: Counts, n: int) -> Floats:
    """Hits over trials; not a number without trials."""
    return np.asarray(hits, float) / n if n else np.full(np.shape(hits), np.nan)


def wilson(hits: Counts, n: int) -> tuple[Floats, Floats]:
    """Lower and upper ends of Wilson's intervals of `hits` out of `n`, [n_items] each; not a number without trials."""
    centre = share(hits, n) + Z**2 / (2 * n) if n else share(hits, n)
    if not n:
        return centre, centre
    p = share(hits, n)
    spread = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    low = np.where(p == 0, 0.0, np.maximum((centre - spread) / scale, 0.0))
    return low, np.where(p == 1, 1.0, np.minimum((centre + spread) / scale, 1.0))


def newcombe_independent(first: Counts, n_first: int, second: Counts, n_second: int) -> tuple[Floats, Floats]:
    """Ends of the 95 % intervals of `first / n_first - second / n_second`, [n_items] each.

    Args:
        first: graphs of the first side that hold each item, [n_items].
        n_first: graphs of the first side.
        second: graphs of the second side that hold it, [n_items].
        n_second: graphs of the second side.
    """
    return _square_and_add(first, n_first, second, n_second, np.zeros(np.shape(first)))


def newcombe_paired(both: Counts, only_first: Counts, only_second: Counts, n_pairs: int) -> tuple[Floats, Floats]:
    """Ends of the 95 % intervals of the difference between the two sides of pairs, [n_items] each.

    Args:
        both: pairs of which both graphs hold each item, [n_items].
        only_first: pairs of which the first alone holds it, [n_items].
        only_second: pairs of which the second alone holds it, [n_items].
        n_pairs: all pairs.
    """
    neither = n_pairs - both - only_first - only_second
    first, second = both + only_first, both + only_second
    product = np.asarray(both * neither - only_first * only_second, float)
    # a positive correlation is taken towards none, by half a pair in each cell
    product = np.where(product > 0, np.maximum(product - n_pairs / 2, 0.0), product)
    margins = np.asarray(first, float) * (n_pairs - first) * second * (n_pairs - second)
    correlation = np.divide(product, np.sqrt(margins), out=np.zeros_like(product), where=margins > 0)
    return _square_and_add(first, n_pairs, second, n_pairs, correlation)


def _square_and_add(
    first: Counts, n_first: int, second: Counts, n_second: int, correlation: Floats
) -> tuple[Floats, Floats]:
    p, q = share(first, n_first), share(second, n_second)
    (p_low, p_high), (q_low, q_high) = wilson(first, n_first), wilson(second, n_second)
    below = _hypotenuse(p - p_low, q_high - q, correlation)
    above = _hypotenuse(p_high - p, q - q_low, correlation)
    return np.clip(p - q - below, -1.0, 1.0), np.clip(p - q + above, -1.0, 1.0)


def _hypotenuse(one: Floats, other: Floats, correlation: Floats) -> Floats:
    return np.sqrt(np.maximum(one**2 - 2 * correlation * one * other + other**2, 0.0))


def cohens_h(first: Floats, second: Floats) -> npt.NDArray[np.float64]:
    """`2 asin sqrt(first) - 2 asin sqrt(second)`, in radians from -pi to pi (Cohen 1988, chapter 6).

    Args:
        first: frequencies, [n_items].
        second: frequencies, [n_items].
    """
    return 2 * np.arcsin(np.sqrt(first)) - 2 * np.arcsin(np.sqrt(second))
