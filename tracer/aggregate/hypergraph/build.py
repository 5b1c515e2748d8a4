"""Makes the tables of the co-occurrence hypergraph from the incidences of the run."""

from collections.abc import Callable

from tracer.aggregate.reading import feature_incidence, read_strata
from tracer.aggregate.tasks import TaskMap
from tracer.config import AggregateConfig
from tracer.tables.building import create_table
from tracer.tables.database import Connection
from tracer.tables.hypergraph_tables import HYPERGRAPH_TABLES


def build_hypergraph(
    connection: Connection, config: AggregateConfig, stratum: str | None, *, run: TaskMap, say: Callable[[str], None]
) -> None:
    """x"""
    for table in HYPERGRAPH_TABLES:
        if table.made_by == "aggregate":
            create_table(connection, table)
    strata = read_strata(connection, stratum)
    items, incidence = feature_incidence(connection, strata)
