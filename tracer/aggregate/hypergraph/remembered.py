"""Pairs that are counted once and added to: only pairs of the new graphs are counted when graphs come in.

What is remembered is every pair that shared more of the graphs than a bound below the least support that is asked for,
when all were last counted. A pair that is not remembered can have come to that support only by sharing many of the
graphs since then; the few that share enough of them are counted in all graphs. Once too many graphs have come in since,
everything is counted anew. The counts are exact throughout.
"""

import math

import numpy as np
import pyarrow as pa

from tracer.aggregate.hypergraph.pairs import Pairs, count_given_pairs, count_pairs
from tracer.aggregate.incidence import Incidence, places_among
from tracer.aggregate.reading import Items
from tracer.aggregate.state import MAX_NEW_SHARE, REMEMBERED, SCHEMA
from tracer.aggregate.tasks import TaskMap
from tracer.tables.database import Connection

MOST_CANDIDATES = 4_000_000
"""Pairs beyond which counting them one by one in all graphs would take longer than counting everything."""


def count_pairs_on(
    connection: Connection, items: Items, incidence: Incidence, *, min_support: int, run: TaskMap
) -> Pairs:
    """The pairs that share at least `min_support` graphs, from what is remembered of the first of them, if anything is.

    Args:
        connection: the results being built, the state attached; what is counted anew is remembered there.
        items: what the columns of the incidence stand for.
        incidence: of all graphs.
        min_support: fewest graphs that a pair shares, in every build of this state.
        run: spreads the counting.
    """
    connection.execute(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.pairs_counted (bound BIGINT, n_graphs BIGINT)")
    for bound, n_counted in connection.execute(f"FROM {SCHEMA}.pairs_counted").fetchall():
        if incidence.n_graphs - n_counted <= MAX_NEW_SHARE * n_counted:
            pairs = _added(_recalled(connection, items), incidence, n_counted, bound, min_support, run)
            if pairs is not None:
                return pairs
    floor = max(1, math.ceil(REMEMBERED * min_support))
    pairs = count_pairs(incidence, floor, run)
    _remember(connection, items, pairs, floor - 1, incidence.n_graphs)
    listed = pairs.support >= min_support
    return Pairs(first=pairs.first[listed], second=pairs.second[listed], support=pairs.support[listed])


def _added(
    old: Pairs, incidence: Incidence, n_counted: int, bound: int, min_support: int, run: TaskMap
) -> Pairs | None:
    """The pairs that share at least `min_support` graphs, from the remembered ones; None where all must be counted."""
    new = Incidence(matrix=incidence.matrix[n_counted:])
    least_gain = min_support - bound
    if _about_how_many(new, least_gain) > MOST_CANDIDATES:
        return None
    candidates = count_pairs(new, least_gain, run)
    n_items = incidence.matrix.shape[1]
    keys = old.first * n_items + old.second
    assert np.all(np.diff(keys) > 0), "pairs are remembered in their order"
    _, is_old = places_among(keys, candidates.first * n_items + candidates.second)
    first, second = candidates.first[~is_old], candidates.second[~is_old]
    if len(first) > MOST_CANDIDATES:
        return None
    support = np.concatenate([
        old.support + count_given_pairs(new, old.first, old.second, run),
        count_given_pairs(incidence, first, second, run),
    ])
    keys = np.concatenate([keys, first * n_items + second])
    listed = np.flatnonzero(support >= min_support)
    listed = listed[np.argsort(keys[listed], kind="stable")]  # quick, as they are sorted up to those that are new
    first, second = np.divmod(keys[listed], n_items)
    return Pairs(first=first, second=second, support=support[listed])


def _about_how_many(new: Incidence, least_gain: int) -> int:
    """About how many pairs share `least_gain` of some graphs, of which all pairs of a graph are those that share one:
    it falls with the square where items are as frequent as Zipf's law says.
    """
    length = new.length.astype(np.int64)
    return int((length * (length - 1) // 2).sum()) // least_gain**2


def _remember(connection: Connection, items: Items, pairs: Pairs, bound: int, n_graphs: int) -> None:
    ends = {name: items.places[place, :2] for name, place in (("a", pairs.first), ("b", pairs.second))}
    columns = {f"layer_{name}": place[:, 0].astype(np.int16) for name, place in ends.items()}
    columns |= {f"feature_{name}": place[:, 1].astype(np.int32) for name, place in ends.items()}
    connection.register("pairs_to_remember", pa.table(columns | {"support": pairs.support.astype(np.int32)}))
    connection.execute(f"CREATE OR REPLACE TABLE {SCHEMA}.pairs AS SELECT * FROM pairs_to_remember")
    connection.unregister("pairs_to_remember")
    connection.execute(
        f"CREATE OR REPLACE TABLE {SCHEMA}.pairs_counted AS SELECT {bound} AS bound, {n_graphs} AS n_graphs"
    )


def _recalled(connection: Connection, items: Items) -> Pairs:
    """The remembered pairs, sorted, by the items of now: further ones leave the order of the others as it is."""
    columns = connection.execute(f"SELECT * FROM {SCHEMA}.pairs").fetchnumpy()
    first, second = (items.index(columns[f"layer_{end}"], columns[f"feature_{end}"]) for end in "ab")
    return Pairs(first=first, second=second, support=columns["support"].astype(np.int64))
