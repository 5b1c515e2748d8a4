"""How often would any item differ as much if sides did not matter? Sides dealt out anew, and the largest difference.

Differences are made comparable by their standard deviation over all deals, which is known in closed form: of a graph
count within strata the hypergeometric one, of swapped pairs the root of the number of pairs that differ. The chance
that the largest of them, over all items of a kind, reaches an item's own is its family-wise p (Westfall and Young 1993,
single-step maxT); the observed deal counts as one of the deals, so p is at least `1 / (n_deals + 1)`.

Cost: (graph, item) incidences times deals multiplications, one to two billion a second on a core of 2026, and where
items are pairs, making their columns for every pass; 20,000 graphs, 4,600 features and 1,000 deals take 2 s, and
760,000 pairs of them 45 s. Memory: one block of items and one of deals.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from tracer.aggregate.comparing.items import Items
from tracer.aggregate.comparing.sides import Deals, Sides
from tracer.aggregate.incidence import Floats

DEAL_BYTES = 2**27
"""Room for deals, bytes; every pass over the items makes them anew, so the fewer passes the better."""
MAX_DEALS_AT_ONCE = 1024
ITEMS_AT_ONCE = 4096
ROUNDING = 1e-5
"""Differences this near, in standard deviations, are equal."""


def family_wise_p(sides: Sides, items: Items, *, n_deals: int, seed: int) -> Floats:
    """For each item the share of deals in which any item differs as much, [n_items]; not a number without deals.

    Args:
        sides: the graphs, or pairs, and their sides.
        items: what they hold; only items that could be found may be among them.
        n_deals: how often sides are dealt out anew.
        seed: another one gives other deals.
    """
    if n_deals == 0:
        return np.full(items.n_items, np.nan)
    observed = np.zeros(items.n_items)
    largest = np.zeros(n_deals)
    as_it_is = _as_it_is(sides)
    n_at_once = min(max(DEAL_BYTES // (4 * max(sides.n_units, 1)), 1), MAX_DEALS_AT_ONCE)
    for start in range(0, n_deals, n_at_once):
        stop = min(start + n_at_once, n_deals)
        deals = sides.deal(seed, start, stop)
        for places, by_item, centre, spread in _blocks(sides, items):
            if start == 0:
                observed[places] = _standardised(by_item @ as_it_is, centre, spread)[:, 0]
            if by_item.shape[0]:
                found = _standardised(by_item @ deals, centre, spread).max(axis=0)
                largest[start:stop] = np.maximum(largest[start:stop], found)
    n_reaching = n_deals - np.searchsorted(np.sort(largest), observed - ROUNDING, side="left")
    return (1 + n_reaching) / (1 + n_deals)


def _as_it_is(sides: Sides) -> Deals:
    deal = np.ones((sides.n_units, 1), np.float32)
    if not sides.is_paired:
        deal[sides.n_first :] = 0
    return deal


def _standardised(sums: Deals, centre: Floats, spread: Floats) -> Floats:
    """Absolute differences in standard deviations, [n_items, n_deals]; 0 where no deal can differ."""
    away = np.abs(sums - centre[:, None])
    return np.divide(away, spread[:, None], out=np.zeros_like(away), where=spread[:, None] > 0)


def _blocks(sides: Sides, items: Items) -> Iterator[tuple[slice, sparse.csr_array, Floats, Floats]]:
    """Places of some items, the items' rows [n_block, n_units], and mean and deviation of what a deal makes of them."""
    for start in range(0, items.n_items, ITEMS_AT_ONCE):
        places = slice(start, min(start + ITEMS_AT_ONCE, items.n_items))
        block = items.block(places.start, places.stop)
        if sides.is_paired:
            block = block[: sides.n_first] - block[sides.n_first :]
            centre, variance = np.zeros(block.shape[1]), np.asarray((block**2).sum(axis=0), float).ravel()
        else:
            centre, variance = _moments(sides, block)
        yield places, block.T.tocsr().astype(np.float32), centre, np.sqrt(variance)


def _moments(sides: Sides, block: sparse.csr_array) -> tuple[Floats, Floats]:
    """Hypergeometric mean and variance of each item's graphs on the first side, added up over strata."""
    centre, variance = np.zeros(block.shape[1]), np.zeros(block.shape[1])
    for units, n_first in sides.strata():
        n = len(units)
        held = np.asarray(block[units].sum(axis=0), float).ravel()
        centre += held * n_first / n
        if n > 1:
            variance += held * (n - held) * n_first * (n - n_first) / (n**2 * (n - 1))
    return centre, variance
