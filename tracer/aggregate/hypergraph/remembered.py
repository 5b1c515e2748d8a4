"""Pairs that are counted once and added to: only pairs of the new graphs are counted when graphs come in.

What is remembered is every pair that shares more graphs than a bound below the least support that is asked for. A pair
that is not remembered can have come to that support only by sharing many of the new graphs; the few that share enough
of them are counted in all graphs. Each time the bound rises by what the others may have gained, and where it has no
room left, everything is counted anew. The counts are exact throughout.
"""

import math

import numpy as np
import pyarrow as pa

from tracer.aggregate.hypergraph.pairs import Pairs, count_given_pairs, count_pairs
from tracer.aggregate.incidence import Incidence, places_among
from tracer.aggregate.reading import Items
from tracer.aggregate.state import SCHEMA
from tracer.aggregate.tasks import TaskMap
from tracer.tables.database import Connection

REMEMBERED = 0.8
"""Pairs of at least this share of the least support are remembered."""
MOST_CANDIDATES = 4_000_000
"""Pairs beyond which counting them one by one in all graphs would take longer than counting everything."""


def count_pairs_on(
    connection: Connection, items: Items, incidence: Incidence, *, min_support: int, n_counted: int, run: TaskMap
) -> Pairs:
    """The pairs that share at least `min_support` graphs, from what is remembered of the first `n_counted` graphs.

    Args:
        connection: the results being built, the state attached; what is remembered is brought up to date.
        items: what the columns of the incidence stand for.
        incidence: of all graphs.
        min_support: fewest graphs that a pair shares.
        n_counted: graphs whose pairs are remembered; 0 where none are.
        run: spreads the counting.
    """
    found = _added(connection, items, incidence, min_support, n_counted, run) if n_counted else None
    if found is None:
        floor = max(1, math.ceil(REMEMBERED * min_support))
        found = count_pairs(incidence, floor, run), floor - 1
    pairs, bound = found
    _remember(connection, items, pairs, bound)
    listed = pairs.support >= min_support
    return Pairs(first=pairs.first[listed], second=pairs.second[listed], support=pairs.support[listed])


def _added(
    connection: Connection, items: Items, incidence: Incidence, min_support: int, n_counted: int, run: TaskMap
) -> tuple[Pairs, int] | None:
    """The remembered pairs with the new graphs added, and the new bound; None where all must be counted."""
    new = Incidence(matrix=incidence.matrix[n_counted:])
    old, bound = _recalled(connection, items)
    least_gain = (min_support - 1 - bound) // 4 + 1
    if _about_how_many(new, least_gain) > MOST_CANDIDATES:
        return None
    candidates = count_pairs(new, least_gain, run)
    n_items = len(items.places)
    remembered = np.sort(old.first * n_items + old.second)
    _, is_old = places_among(remembered, candidates.first * n_items + candidates.second)
    first, second = candidates.first[~is_old], candidates.second[~is_old]
    if len(first) > MOST_CANDIDATES:
        return None
    gained = count_given_pairs(new, old.first, old.second, run)
    support = count_given_pairs(incidence, first, second, run)
    bound += least_gain - 1
    kept = support > bound
    pairs = Pairs(
        first=np.concatenate([old.first, first[kept]]),
        second=np.concatenate([old.second, second[kept]]),
        support=np.concatenate([old.support + gained, support[kept]]),
    )
    order = np.lexsort((pairs.second, pairs.first))
    return Pairs(first=pairs.first[order], second=pairs.second[order], support=pairs.support[order]), bound


def _about_how_many(new: Incidence, least_gain: int) -> int:
    """About how many pairs share `least_gain` of some graphs, of which all pairs of a graph are those that share one:
    it falls with the square where items are as frequent as Zipf's law says.
    """
    length = new.length.astype(np.int64)
    return int((length * (length - 1) // 2).sum()) // least_gain**2


def _remember(connection: Connection, items: Items, pairs: Pairs, bound: int) -> None:
    ends = {name: items.places[place, :2] for name, place in (("a", pairs.first), ("b", pairs.second))}
    columns = {f"layer_{name}": place[:, 0].astype(np.int16) for name, place in ends.items()}
    columns |= {f"feature_{name}": place[:, 1].astype(np.int32) for name, place in ends.items()}
    connection.register("pairs_to_remember", pa.table(columns | {"support": pairs.support.astype(np.int32)}))
    connection.execute(f"CREATE OR REPLACE TABLE {SCHEMA}.pairs AS SELECT * FROM pairs_to_remember")
    connection.unregister("pairs_to_remember")
    connection.execute(f"CREATE OR REPLACE TABLE {SCHEMA}.pair_bound AS SELECT {bound} AS bound")


def _recalled(connection: Connection, items: Items) -> tuple[Pairs, int]:
    """The remembered pairs, by the items of now, and the bound on all others."""
    bound = int(connection.execute(f"SELECT bound FROM {SCHEMA}.pair_bound").fetchall()[0][0])
    columns = connection.execute(f"SELECT * FROM {SCHEMA}.pairs").fetchnumpy()
    first, second = (items.index(columns[f"layer_{end}"], columns[f"feature_{end}"]) for end in "ab")
    return Pairs(first=first, second=second, support=columns["support"].astype(np.int64)), bound
