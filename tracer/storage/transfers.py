"""Files between this machine and an object store."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from tracer.errors import RunError, TracerError
from tracer.storage.objects import Objects

Made = TypeVar("Made")

N_TRIES = 3
"""Of a whole file, beside the retries of each request: an answer that was lost at the end of an upload in pieces makes
the client's own retry fail, because the pieces are gone."""

_CHUNK_BYTES = 16 * 2**20
_IN_USE = ".in-use"


def path_of(objects: Objects, name: str) -> str:
    """A file's path as the filesystem knows it."""
    return f"{objects.base}/{name}".rstrip("/")


def read_file(objects: Objects, reference: str, name: str) -> bytes:
    """The content of a file. Arguments and errors as `download`, and FileNotFoundError where it is absent."""

    def read() -> bytes:
        with objects.filesystem.open_input_stream(path_of(objects, name), compression=None) as source:
            return source.read()

    return _tried(f"{reference}/{name}", read)


def write_file(objects: Objects, reference: str, name: str, content: bytes) -> None:
    """Make or replace a file. Arguments and errors as `download`."""

    def write() -> None:
        # Not by `with`: that would close, and so complete, a file of which a piece failed.
        target = objects.filesystem.open_output_stream(path_of(objects, name), compression=None)
        target.write(content)
        target.close()

    _tried(f"{reference}/{name}", write)


def download(objects: Objects, reference: str, name: str, path: Path) -> None:
    """Bring a file here; one that is absent stays absent.

    Args:
        objects: where it is.
        reference: URI of that, for messages.
        name: the file.
        path: what it becomes, whole or not at all.

    Raises:
        RunError: the storage does not answer, or there is no room here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")

    def copy() -> None:
        with (
            objects.filesystem.open_input_stream(path_of(objects, name), compression=None) as source,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, _CHUNK_BYTES)

    try:
        _tried(f"{reference}/{name}", copy)
        temporary.replace(path)
    except FileNotFoundError:
        return
    finally:
        temporary.unlink(missing_ok=True)


def upload(objects: Objects, reference: str, path: Path, name: str) -> None:
    """Put a file there, whole or not at all. Arguments and errors as `download`."""

    def copy() -> None:
        with path.open("rb") as file:
            target = objects.filesystem.open_output_stream(path_of(objects, name), compression=None)
            shutil.copyfileobj(file, target, _CHUNK_BYTES)
            target.close()

    _tried(f"{reference}/{name}", copy)


def _tried(where: str, work: Callable[[], Made]) -> Made:
    for n_left in reversed(range(N_TRIES)):
        try:
            with told(where):
                return work()
        except RunError:
            if n_left == 0:
                raise
    raise AssertionError("the last try returns or raises")


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for the time of a block; what processes left that were killed in theirs is removed first.

    Args:
        parent: where; made where it is absent.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("scratch-*"):
        if _is_abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=parent, prefix="scratch-") as name, Path(name, _IN_USE).open("w") as guard:
        flock(guard, LOCK_EX)
        yield Path(name)


def _is_abandoned(folder: Path) -> bool:
    """Whether no process holds it; one that has no guard yet was made this moment."""
    try:
        with (folder / _IN_USE).open() as guard:
            flock(guard, LOCK_EX | LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def told(where: str) -> Iterator[None]:
    """Errors of the storage as errors for a user; that a file is absent stays what it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(
            where, found=" ".join(str(error).split()), expected="storage that answers",
            to_do="Mend the storage or the access to it; then run the same command again.",
        ) from error  # fmt: skip


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
