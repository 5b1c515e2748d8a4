"""The table `comparisons`: every comparison that a run is configured to make."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from tracer.aggregate.comparing.compare import compare_as
from tracer.config import ComparisonConfig
from tracer.errors import DataError
from tracer.tables.building import insert_rows
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES


def build_comparisons(connection: Connection, comparisons: Sequence[ComparisonConfig], *, min_support: int) -> None:
    """Fill `comparisons`; one that cannot be made becomes a row of `failures`.

    Args:
        connection: the results file being built, with `prompts`, `graphs`, `nodes`, `edges`, `failures` and an empty
            `comparisons` in it.
        comparisons: what is compared; their names differ.
        min_support: least graphs of both sides together that hold a listed item.

    Raises:
        ConfigError: a comparison with counterfactual partners is said not to be paired.
    """
    failures = []
    for settings in comparisons:
        try:
            found = compare_as(connection, settings, min_support=min_support).items
        except DataError as error:
            failures.append(_failure(settings, error))
            continue
        insert_rows(connection, TABLES["comparisons"], _as_declared(found))
    failure_table = TABLES["failures"]
    insert_rows(connection, failure_table, pa.Table.from_pylist(failures, schema=failure_table.arrow_schema()))


def _as_declared(found: pl.DataFrame) -> pa.Table:
    return found.to_arrow().cast(TABLES["comparisons"].arrow_schema())


def _failure(settings: ComparisonConfig, error: DataError) -> dict[str, Any]:
    return {
        "stage": "aggregate",
        "item_id": f"comparison {settings.name}",
        "error_class": type(error).__name__,
        "message": str(error),
        "attempts": 1,
    }
