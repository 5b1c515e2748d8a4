"""The measures of a comparison, item by item: supports, frequencies, difference, interval, effect size, chances."""

import numpy as np
import polars as pl

from tracer.aggregate.comparing.exact_tests import fisher, mcnemar, q_values
from tracer.aggregate.comparing.intervals import cohens_h, newcombe_independent, newcombe_paired, share
from tracer.aggregate.comparing.items import Items
from tracer.aggregate.comparing.permutation import ITEMS_AT_ONCE, family_wise_p
from tracer.aggregate.comparing.sides import Sides
from tracer.aggregate.incidence import Ints


def measure(sides: Sides, items: Items, *, n_permutations: int = 1000, seed: int = 0) -> pl.DataFrame:
    """The columns of `comparisons` from `support_first` on, a row for each item.

    What a side without graphs leaves undefined is null; so is q of an item that is too rare to be significant
    (`tracer.aggregate.comparing.exact_tests`), and `p_permutation` where no permutations are asked for.

    Args:
        sides: the graphs and their sides.
        items: what the graphs hold.
        n_permutations: how often sides are dealt out anew for `p_permutation`.
        seed: of those deals.
    """
    both, only_first, only_second, first, second = _count(sides, items)
    if sides.is_paired:
        low, high = newcombe_paired(both, only_first, only_second, sides.n_first)
        p, least = mcnemar(only_first, only_second)
    else:
        low, high = newcombe_independent(first, sides.n_first, second, sides.n_second)
        p, least = fisher(first, sides.n_first, second, sides.n_second)
    frequency_first, frequency_second = share(first, sides.n_first), share(second, sides.n_second)
    has_sides = sides.n_first > 0 and sides.n_second > 0
    nothing = np.full(items.n_items, np.nan)
    frame = pl.DataFrame({
        "support_first": first,
        "n_first": np.full(items.n_items, sides.n_first),
        "frequency_first": frequency_first,
        "support_second": second,
        "n_second": np.full(items.n_items, sides.n_second),
        "frequency_second": frequency_second,
        "is_paired": np.full(items.n_items, sides.is_paired),
        "difference": frequency_first - frequency_second,
        "difference_low": low,
        "difference_high": high,
        "effect_size": cohens_h(frequency_first, frequency_second),
        "p": p if has_sides else nothing,
        "q": q_values(p, least) if has_sides else nothing,
        "p_permutation": family_wise_p(sides, items, n_deals=n_permutations if has_sides else 0, seed=seed),
    })
    return frame.with_columns(pl.selectors.float().fill_nan(None))


def _count(sides: Sides, items: Items) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Pairs with the item in both, the first alone and the second alone (0 without pairs), and each side's support."""
    counts = np.zeros((5, items.n_items), np.int64)
    for start in range(0, items.n_items, ITEMS_AT_ONCE):
        stop = min(start + ITEMS_AT_ONCE, items.n_items)
        block = items.block(start, stop)
        first, second = block[: sides.n_first], block[sides.n_first :]
        counts[3, start:stop], counts[4, start:stop] = first.sum(axis=0), second.sum(axis=0)
        if sides.is_paired:
            counts[0, start:stop] = first.multiply(second).sum(axis=0)
            counts[1:3, start:stop] = counts[3:, start:stop] - counts[0, start:stop]
    both, only_first, only_second, first_all, second_all = counts
    return both, only_first, only_second, first_all, second_all
