"""The run folder: what lies where in it, which path or URI may become one, and who may write to it.

A folder is claimed by one driver at a time, by the lock of its store. The lock also counts the driver sessions, so that
the attempts of a session can never share a file name with those of a session before it (whose workers may still be
writing when the next driver starts).
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tracer.errors import ArtifactError, RunError
from tracer.storage.local_store import LocalStore
from tracer.storage.store import LOCK_NAME, Say, Store, file_name, is_uri, open_store
from tracer.tables.schema import DATABASE_NAME

RECORD_NAME = "run.json"
"""What the run is."""
RECEIPTS = "shards"
"""Folder with one file per committed shard."""
QUARANTINE = "quarantine"
"""Folder with one file per shard that was given up."""
DAMAGED = "damaged"
"""Folder of receipts that `tracer verify --heal` moved away."""
AGGREGATES = "aggregates"
"""Folder of what later stages keep for a resume."""

_CORPUS_NAMES = ("corpus", "corpus.partial")
_PARTIAL_RECORD = re.compile(rf"\.{re.escape(RECORD_NAME)}\.\d+\.tmp")


def receipt_name(shard_id: str) -> str:
    """The file that says that a shard is committed."""
    return f"{RECEIPTS}/{shard_id}.json"


def check_out(out: str | Path | None) -> Path:
    """The absolute path of a folder of this machine that can be made, or is there.

    Raises:
        RunError: no path given, a URI, a relative path inside a Ray job (its working folder is temporary and would be
            lost with everything in it), or a place that cannot be written.
    """
    if out is None:
        raise RunError("run folder", found="none given", expected="--out or `runner.out`", to_do="Name a folder.")
    if is_uri(out):
        raise RunError(
            str(out), found="a URI", expected="a folder of this machine", to_do="Give a local or mounted path."
        )
    path, in_job = Path(out).expanduser(), inside_ray_job()
    if in_job and not path.is_absolute():
        raise RunError(
            str(out),
            found="a relative path inside a Ray job, whose working folder is deleted with it",
            expected="an absolute path",
            to_do="Give --out as an absolute path on storage that every machine shares, or as a URI.",
        )
    path = path.absolute()
    nearest = next(parent for parent in (path, *path.parents) if parent.exists())
    if not nearest.is_dir():
        raise RunError(str(path), found=f"{nearest} is a file", expected="a folder", to_do="Choose another --out.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(
            str(path), found=f"{nearest} cannot be written", expected="a writable place", to_do="Choose another --out."
        )
    return path


def check_run_out(out: str | Path | None) -> str:
    """As `check_out`, but a URI of an object store may be a run folder too; whether it can be used, its lock tells."""
    return str(out) if out is not None and is_uri(out) else str(check_out(out))


def inside_ray_job() -> bool:
    """Whether this process was started by `ray job submit` or by a Ray worker."""
    in_environment = any(name in os.environ for name in ("RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"))
    return in_environment or "_ray_pkg_" in str(Path.cwd())


def existing(reference: str | Path) -> Store:
    """The folder of a run that was started before.

    Args:
        reference: its path or URI.

    Raises:
        ArtifactError: there is no run.json in it.
        RunError: a URI that cannot be opened.
    """
    store = open_store(reference)
    if not store.has([RECORD_NAME]):
        raise ArtifactError(
            str(reference), found="no run.json", expected="a run folder", to_do="Give the --out of a `tracer run`."
        )
    return store


@contextmanager
def claimed(
    reference: str | Path, *, lease_s: float | None = None, say: Say = lambda _: None
) -> Iterator[tuple[Store, int]]:
    """Make the folder if need be and hold its lock; gives the folder and the number of this driver session, from 0.

    What was made is removed when the block ends without a run.json.

    Args:
        reference: a path or URI.
        lease_s: as for `open_store`.
        say: told what is waited for.

    Raises:
        RunError: another driver holds the lock, or the folder holds other things, or it cannot be made.
    """
    store = open_store(reference, lease_s=lease_s)
    _refuse_foreign(store)
    with store.lock.held(say) as session:
        try:
            yield store, session
        finally:
            if not store.has([RECORD_NAME]):
                _discard(store)


@contextmanager
def written(store: Store) -> Iterator[None]:
    """A full disk under a worker costs an attempt; under what a driver writes it ends the run, in one message.

    Raises:
        RunError: something could not be written in the block.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            store.reference,
            found=str(error),
            expected="a run folder that can be written",
            to_do="Make room or mend the storage; then run the same command again.",
        ) from error


def _refuse_foreign(store: Store) -> None:
    others = [name for name in store.list() if not _is_unfinished(name)]
    if others and not store.has([RECORD_NAME]):
        raise RunError(
            store.reference,
            found=f"a folder with other things in it ({', '.join(others[:3])})",
            expected="a new or empty folder, or a run",
            to_do="Choose another --out.",
        )


def _is_unfinished(name: str) -> bool:
    """Whether a driver that died before it wrote run.json leaves this behind."""
    return name in {*_CORPUS_NAMES, LOCK_NAME} or _PARTIAL_RECORD.fullmatch(name) is not None


def _discard(store: Store) -> None:
    """Remove what an unfinished start left; the lock, which guards the rest, is last."""
    files = [name for name in store.list() if _is_unfinished(name) and name != LOCK_NAME]
    for name in files:
        for inner in store.list(name):
            store.remove(inner)
        if name not in _CORPUS_NAMES:
            store.remove(name)
        elif isinstance(store, LocalStore):
            (store.root / name).rmdir()
    store.lock.remove()


def run_id_of(store: Store) -> str:
    """The name of a run: that of its folder."""
    return file_name(store.reference)


def local_database(store: Store) -> Path | None:
    """results.duckdb as a local file, fetched where need be; None where there is none yet."""
    if not store.has([DATABASE_NAME]):
        return None
    with store.fetched([DATABASE_NAME]) as root:
        return root / DATABASE_NAME
