"""Makes the tables of the co-occurrence hypergraph from the incidences of the run."""

from collections.abc import Callable, Mapping, Sequence

from tracer.aggregate.hypergraph.chances import support_in_strata
from tracer.aggregate.hypergraph.hyperedges import add_hyperedges, create_hyperedges
from tracer.aggregate.hypergraph.pairs import Pairs, count_pairs
from tracer.aggregate.hypergraph.remembered import count_pairs_on
from tracer.aggregate.hypergraph.significance import Measures, pair_measures
from tracer.aggregate.incidence import Incidence, Ints
from tracer.aggregate.reading import (
    component_incidence,
    component_names,
    feature_incidence,
    position_incidence,
    read_strata,
)
from tracer.aggregate.tasks import TaskMap
from tracer.config import AggregateConfig
from tracer.tables.building import create_table, insert_columns
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES

INCIDENCES = {
    "component": component_incidence,
    "position": position_incidence,
}  # fmt: skip


def build_hypergraph(
    connection: Connection,
    config: AggregateConfig,
    stratum: str | None,
    *,
    run: TaskMap,
    say: Callable[[str], None],
) -> None:
    """Make `cooccurrence`, `component_cooccurrence`, `hyperedges` and what belongs to them.

    Args:
        connection: the results being built, the state attached, with `graphs` and `prompts`.
        config: from which support on pairs and sets are listed, and how many sets.
        stratum: column of `prompts` within whose values the second null is taken; None for the first alone.
        run: spreads the counting.
        say: told what is being made.
    """
    strata = read_strata(connection, stratum)
    say("pairs of components")
    items, incidence = component_incidence(connection, strata)
    pairs = count_pairs(incidence, config.min_support, run)
    names = component_names(items)
    by_name = {end: [names[place] for place in places] for end, places in (("a", pairs.first), ("b", pairs.second))}
    ends = {f"component_{end}": listed for end, listed in by_name.items()}
    _insert_pairs(connection, "component_cooccurrence", ends, _measures(incidence, pairs, config))
    say("pairs of features")
    items, incidence = feature_incidence(connection, strata)
    pairs = count_pairs_on(connection, items, incidence, min_support=config.min_support, run=run)
    places: dict[str, Ints] = {}
    for end, place in (("a", pairs.first), ("b", pairs.second)):
        places |= {f"layer_{end}": items.places[place, 0], f"feature_{end}": items.places[place, 1]}
    _insert_pairs(connection, "cooccurrence", places, _measures(incidence, pairs, config))
    create_hyperedges(connection)
    for granularity in sorted(config.sets_of):
        say(f"sets of items of the kind {granularity}")
        of_features = granularity == "feature"
        read = (items, incidence) if of_features else INCIDENCES[granularity](connection, strata)
        add_hyperedges(connection, *read, config, run=run)


def _measures(incidence: Incidence, pairs: Pairs, config: AggregateConfig) -> Measures:
    return pair_measures(
        pairs,
        support=incidence.support,
        length=incidence.length,
        min_support=config.min_support,
        stratum=incidence.stratum,
        stratum_support=None if incidence.stratum is None else support_in_strata(incidence),
    )


def _insert_pairs(
    connection: Connection, name: str, ends: Mapping[str, Sequence[str] | Ints], measures: Measures
) -> None:
    create_table(connection, TABLES[name])
    insert_columns(connection, TABLES[name], {**ends, **measures})
