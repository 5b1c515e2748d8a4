"""Files between this machine and an object store."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tracer.errors import RunError, TracerError
from tracer.storage.objects import Objects

Made = TypeVar("Made")

N_TRIES = 3
"""Of a whole file, beside the retries of each request: an answer that was lost at the end of an upload in pieces makes
the client's own retry fail, because the pieces are gone; and an answer may break off in the middle."""


def tried(work: Callable[[], Made]) -> Made:
    """Do what can be done again from its beginning, once more where the storage fails."""
    for n_left in reversed(range(N_TRIES)):
        try:
            return work()
        except RunError:
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
        with _told_here(path), temporary.open("wb") as file:
            return objects.download(name, file)

    with _told_here(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if tried(fetch):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def upload(objects: Objects, path: Path, name: str) -> None:
    """Put a file there, whole or not at all. Arguments and errors as `download`."""

    def send() -> None:
        with _told_here(path), path.open("rb") as file:
            objects.upload(name, file)

    tried(send)


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
def _told_here(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            str(path), found=str(error), expected="room for a copy and access to it",
            to_do="Make room there, or choose another folder by TRACER_CACHE; then run the same command again.",
        ) from error  # fmt: skip
