"""Incidences of many graphs whose statistics resemble real ones, drawn fast."""

import numpy as np
from scipy import sparse

from tracer.aggregate.incidence import Incidence, Ints

GRAPHS_AT_ONCE = 50_000
MEAN_DRAWS = 130
"""Gives about 100 distinct items a graph: the commonest are drawn several times."""
LENGTH_SPREAD = 0.5
"""Standard deviation of the logarithm of a graph's number of draws."""
JOINS = 0.9
"""Chance that a member of a community comes along with it."""


def zipf_incidence(
    n_graphs: int,
    seed: int,
    *,
    n_items: int = 400_000,
    mean_draws: float = MEAN_DRAWS,
    n_communities: int = 50,
    community_size: int = 8,
    n_strata: int = 0,
) -> Incidence:
    """Draw graphs of lognormal lengths from a Zipf law over items, in which communities of items come together too.

    Item 0 is the commonest and in nearly every graph. A community is in 0.1 to 3 % of the graphs, the more so the
    longer they are, and its members (`community_members`) are spread over all frequencies. A million graphs take
    about a minute and, while they are drawn, about as much memory again as the matrix.
    """
    rng = np.random.default_rng(seed)
    members = community_members(n_items, n_communities, community_size)
    frequencies = np.geomspace(0.001, 0.03, n_communities)
    bits = n_items.bit_length()
    parts = []
    for start in range(0, n_graphs, GRAPHS_AT_ONCE):
        n_some = min(GRAPHS_AT_ONCE, n_graphs - start)
        room = rng.lognormal(-(LENGTH_SPREAD**2) / 2, LENGTH_SPREAD, n_some)
        n_draws = np.maximum(1, rng.poisson(mean_draws * room))
        drawn = np.repeat(np.arange(n_some) << bits, n_draws)
        # n^u has the density 1 / x between 1 and n
        item = np.exp(rng.random(len(drawn), dtype=np.float32) * np.float32(np.log(n_items))).astype(np.int32)
        drawn += np.minimum(item, n_items) - 1
        planted = [drawn]
        for frequency, items in zip(frequencies, members, strict=True):
            held = np.flatnonzero(rng.random(n_some) < -np.expm1(-frequency * room))
            joins = rng.random((len(held), community_size)) < JOINS
            planted.append(((held[:, None] << bits) + items)[joins])
        places = np.sort(np.concatenate(planted))
        places = places[np.append(True, places[1:] != places[:-1])]
        bounds = np.searchsorted(places, np.arange(n_some + 1) << bits)
        parts.append(((places & (2**bits - 1)).astype(np.int32), np.diff(bounds)))
    items = np.concatenate([items for items, _ in parts] or [np.zeros(0, np.int32)])
    start_of = np.concatenate([[0], *(lengths for _, lengths in parts)]).cumsum()
    if start_of[-1] <= np.iinfo(np.int32).max:
        start_of = start_of.astype(np.int32)
    matrix = sparse.csr_array((np.ones(len(items), np.int32), items, start_of), shape=(n_graphs, n_items))
    stratum = rng.integers(0, n_strata, n_graphs) if n_strata else None
    return Incidence(matrix=matrix, stratum=stratum)


def community_members(n_items: int, n_communities: int, community_size: int) -> Ints:
    """Items of each community, [n_communities, community_size]: no item is in two."""
    first = n_items // 100
    places = np.geomspace(first, n_items - 1, n_communities * community_size).astype(np.int64)
    # apart even where the spacing is below one
    places = np.maximum.accumulate(places - np.arange(len(places))) + np.arange(len(places))
    return np.random.default_rng(0).permutation(places).reshape(n_communities, community_size)
