"""Files between this machine and an object store."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import mkdtemp
from typing import TypeVar

from tracer.errors import RunError, StorageError, TracerError
from tracer.storage.objects import Objects

Made = TypeVar("Made")

N_TRIES = 3
"""Of a whole file, beside the retries of each request: an answer that was lost at the end of an upload in pieces makes
the client's own retry fail, because the pieces are gone; and an answer may break off in the middle."""

_GUARD = ".scratch"
"""Locked by whoever makes a scratch folder or sweeps them, for that moment."""


def tried(work: Callable[[], Made]) -> Made:
    """Do what can be done again from its beginning, once more where the storage fails."""
    for n_left in reversed(range(N_TRIES)):
        try:
            return work()
        except StorageError:
            if n_left == 0:
                raise
    raise AssertionError("the last try returns or raises")


def download(objects: Objects, name: str, path: Path) -> None:
    """Bring a file here; one that is absent stays absent.

    Args:
        objects: where it is.
        name: the file.
        path: what it becomes, whole or not at all.

    Raises:
        RunError: the storage does not answer, or there is no room here.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def fetch() -> bool:
        with in_cache(path), temporary.open("wb") as file:
            return objects.download(name, file)

    with in_cache(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if tried(fetch):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def upload(objects: Objects, path: Path, name: str) -> None:
    """Put a file there, whole or not at all. Arguments and errors as `download`."""

    def send() -> None:
        with in_cache(path), path.open("rb") as file:
            objects.upload(name, file)

    tried(send)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for the time of a block; what processes left that were killed in theirs is removed first.

    Each has a file beside it that its owner keeps locked. Folder and lock are made, and looked at, under one guard: a
    folder that is not locked yet is nobody's to remove.

    Args:
        parent: where; made where it is absent.

    Raises:
        RunError: it cannot be made.
    """
    with in_cache(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with _guarded(parent):
            for lock in parent.glob("scratch-*.lock"):
                if _is_free(lock):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                    lock.unlink()
            folder = Path(mkdtemp(dir=parent, prefix="scratch-"))
            held = folder.with_name(f"{folder.name}.lock").open("w")
            flock(held, LOCK_EX)
    try:
        yield folder
    finally:
        with _guarded(parent), held:
            shutil.rmtree(folder, ignore_errors=True)
            Path(held.name).unlink(missing_ok=True)


@contextmanager
def _guarded(parent: Path) -> Iterator[None]:
    with (parent / _GUARD).open("w") as guard:
        flock(guard, LOCK_EX)
        yield


def _is_free(lock: Path) -> bool:
    with lock.open() as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            return False
    return True


@contextmanager
def told_of(folder: Path, reference: str) -> Iterator[None]:
    """Errors about files of a local folder name the place that it stands for instead, which is what a user knows."""
    try:
        yield
    except TracerError as error:
        where = error.where.replace(str(folder), reference)
        if where == error.where:
            raise
        raise type(error)(where, found=error.found, expected=error.expected, to_do=error.to_do) from error


@contextmanager
def in_cache(path: Path) -> Iterator[None]:
    """Errors of this machine's disk as errors for a user; `path` is the file or folder concerned."""
    try:
        yield
    except OSError as error:
        raise RunError(
            str(path), found=str(error), expected="room for a copy and access to it",
            to_do="Make room there, or choose another folder by TRACER_CACHE; then run the same command again.",
        ) from error  # fmt: skip
