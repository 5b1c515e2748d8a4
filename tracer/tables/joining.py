"""A harvest beside a run: its tables are reached as `harvest.features`, those of the run by their own names."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from tracer.errors import ArtifactError
from tracer.tables.database import Connection, connect
from tracer.tables.quoting import literal
from tracer.tables.schema import SCHEMA_VERSION

SCHEMA = "harvest"
"""In front of a harvest's tables."""


@contextmanager
def connect_harvest(harvest: Path, run: Path | None = None) -> Iterator[Connection]:
    """Open the results of a harvest, read-only, with those of a run where one is given.

    Args:
        harvest: its results.duckdb.
        run: that of a run.

    Raises:
        ArtifactError: one of them is absent or not of this version, or they are of different transcoders.
    """
    if run is not None:
        with connect(run):
            pass  # says what is wrong with it
    # A database of its own: what is attached to the run's would be seen by all connections to it in this process.
    connection = duckdb.connect()
    try:
        if run is not None:
            connection.execute(f"ATTACH {literal(str(run))} AS results (READ_ONLY)")
            connection.execute("USE results")
        _attach(connection, harvest)
        if run is not None:
            _check_transcoders(connection, harvest)
        yield connection
    finally:
        connection.close()


def _attach(connection: Connection, harvest: Path) -> None:
    if not harvest.is_file():
        to_do = "Make it with `tracer harvest`, or let it finish."
        raise ArtifactError(str(harvest), found="no such file", expected="results.duckdb of a harvest", to_do=to_do)
    try:
        connection.execute(f"ATTACH {literal(str(harvest))} AS {SCHEMA} (READ_ONLY)")
    except duckdb.Error as error:
        to_do = "Close whatever has it open for writing, or make it again."
        raise ArtifactError(str(harvest), found=_one_line(error), expected="a results.duckdb", to_do=to_do) from error
    try:
        rows = connection.execute(f"SELECT schema_version FROM {SCHEMA}.harvests").fetchall()
    except duckdb.Error as error:
        to_do = "Name the folder of a harvest; that of a run is another."
        raise ArtifactError(str(harvest), found=_one_line(error), expected="a harvest's tables", to_do=to_do) from error
    if rows != [(SCHEMA_VERSION,)]:
        found = f"schema version {', '.join(str(version) for (version,) in rows) or 'none'}"
        to_do = "Use the version of tracer that made it, or make it again."
        raise ArtifactError(str(harvest), found=found, expected=str(SCHEMA_VERSION), to_do=to_do)


def _check_transcoders(connection: Connection, harvest: Path) -> None:
    """(layer, feature) of one set says nothing of another."""
    (harvested,) = connection.execute(f"SELECT transcoders_hash FROM {SCHEMA}.harvests").fetchall()[0]
    of_run = [row for (row,) in connection.execute("SELECT transcoders_hash FROM runs").fetchall()]
    if of_run != [harvested]:
        raise ArtifactError(
            str(harvest), found=f"features of the transcoders {harvested}", expected=", ".join(map(str, of_run)),
            to_do="Use a harvest of the transcoders that the run was traced with.",
        )  # fmt: skip


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
