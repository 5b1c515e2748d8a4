"""Opens the results of a run wherever they lie: a folder, the file itself, an object store."""

from pathlib import Path

from tracer.errors import ArtifactError
from tracer.storage.store import is_uri, open_store, place
from tracer.tables.schema import DATABASE_NAME
from tracer.views.results.results import Results


def open_results(run: str | Path, *, harvest: str | Path | None = None) -> Results:
    """The results of a run, to be read.

    Args:
        run: the run's folder, its results.duckdb, or the URI of a folder in an object store, which is fetched.
        harvest: the same of a harvest of the run's transcoders, whose tables are reached as `harvest.features`.

    Raises:
        ArtifactError: there are no results, not of this version, or a harvest of other transcoders.
        RunError: a URI whose storage is unknown or does not answer.
    """
    return Results(local_results(run), None if harvest is None else local_results(harvest))


def local_results(run: str | Path) -> Path:
    """The results file of a run folder, fetched where that is a URI, or the file itself where that is given.

    Args:
        run: as for `open_results`.

    Raises:
        ArtifactError: a URI without results. That a local file is absent, whoever opens it says.
    """
    if not is_uri(run):
        path = Path(run).expanduser()
        return path if path.suffix == ".duckdb" else path / DATABASE_NAME
    store = open_store(run)
    if not store.has([DATABASE_NAME]):
        where, to_do = place(store, DATABASE_NAME), "Let the run finish first."
        raise ArtifactError(where, found="no such file", expected="a results.duckdb", to_do=to_do)
    with store.fetched([DATABASE_NAME]) as root:
        return root / DATABASE_NAME
