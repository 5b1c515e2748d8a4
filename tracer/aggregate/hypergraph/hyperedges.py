"""The tables of recurring sets, at the granularity of features, of components and of features at positions."""

from collections.abc import Callable

import numpy as np

from tracer.aggregate.hypergraph.set_chances import set_measures
from tracer.aggregate.hypergraph.sets import RecurringSets, SetsOfSize, recurring_sets
from tracer.aggregate.incidence import Incidence, Ints
from tracer.aggregate.reading import Items
from tracer.aggregate.tasks import TaskMap
from tracer.config import AggregateConfig
from tracer.tables.building import create_table, insert_columns
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES

NAMES = ("hyperedges", "hyperedge_members", "hyperedge_limits")
ONE_IN = 100
"""A set must be in one graph of this many where `aggregate.set_min_support` says nothing."""


def create_hyperedges(connection: Connection) -> None:
    """Make the tables, empty."""
    for name in NAMES:
        create_table(connection, TABLES[name])


def least_support(config: AggregateConfig, n_graphs: int) -> int:
    """Fewest graphs that a listed set shares."""
    return config.set_min_support or max(config.min_support, -(-n_graphs // ONE_IN))


def add_hyperedges(
    connection: Connection, items: Items, incidence: Incidence, config: AggregateConfig, *, run: TaskMap
) -> None:
    """Add the recurring sets of one granularity.

    Args:
        connection: the results being built.
        items: what the columns of the incidence stand for.
        incidence: of all graphs.
        config: from which support on sets are listed, of which sizes, and how many.
        run: spreads the search.
    """
    sets = recurring_sets(
        incidence,
        min_support=least_support(config, incidence.n_graphs),
        max_size=config.max_set_size,
        max_sets=config.max_sets,
        run=run,
    )
    first_id = 0
    for of_size in sets.by_size:
        ids = np.arange(first_id, first_id + len(of_size.support))
        _add_sets(connection, items.granularity, ids, of_size, set_measures(incidence, of_size, run))
        _add_members(connection, items, ids, of_size.members)
        first_id += len(ids)
    _add_limits(connection, items.granularity, sets)


def _add_sets(
    connection: Connection, granularity: str, ids: Ints, of_size: SetsOfSize, measures: dict[str, np.ma.MaskedArray]
) -> None:
    columns = {
        "granularity": [granularity] * len(ids),
        "hyperedge_id": ids,
        "size": np.full(len(ids), of_size.size),
        "support": of_size.support,
        "is_closed": of_size.is_closed,
        "is_maximal": of_size.is_maximal,
    }
    insert_columns(connection, TABLES["hyperedges"], {**columns, **measures})


def _add_members(connection: Connection, items: Items, ids: Ints, members: Ints) -> None:
    n_sets, size = members.shape
    layer, second, pos = items.places[members.ravel()].T
    is_component = items.granularity == "component"
    nothing = np.full(n_sets * size, -1)
    kinds = np.where(second < 0, "mlp", "head") if is_component else np.full(n_sets * size, "feature")
    columns = {
        "granularity": [items.granularity] * (n_sets * size),
        "hyperedge_id": np.repeat(ids, size),
        "member_idx": np.tile(np.arange(size), n_sets),
        "kind": kinds.tolist(),
        "layer": layer,
        "head": second if is_component else nothing,
        "feature": nothing if is_component else second,
        "pos": pos,
    }
    insert_columns(connection, TABLES["hyperedge_members"], columns)


def _add_limits(connection: Connection, granularity: str, sets: RecurringSets) -> None:
    def column(value: Callable[[SetsOfSize], int | None]) -> list[int | None]:
        return [value(of_size) for of_size in sets.by_size]

    columns = {
        "granularity": [granularity] * len(sets.by_size),
        "size": column(lambda of: of.size),
        "min_support": column(lambda of: of.min_support),
        "min_support_listed": column(lambda of: of.min_support_listed),
        "n_found": column(lambda of: of.n_found),
        "n_listed": column(lambda of: len(of.support)),
    }
    insert_columns(connection, TABLES["hyperedge_limits"], columns)
