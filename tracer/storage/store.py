"""What the rest of the package knows of a place for files, and how one is opened by its path or URI."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

Item = TypeVar("Item")
Made = TypeVar("Made")

LOCK_NAME = ".lock"
"""File that says who holds the lock of a store, and how often it was taken."""

Say = Callable[[str], None]
"""Takes words for the person who waits."""


@runtime_checkable
class Lock(Protocol):
    """Lets one process at a time write to a store; dies with its holder."""

    def held(self, say: Say) -> AbstractContextManager[int]:
        """Hold it; gives how often it was taken before: the number of this session.

        Raises:
            RunError: somebody else holds it, or the place cannot be written.
        """

    def holder(self) -> str | None:
        """Who holds it at this moment, in words; None where nobody does."""

    def confirm(self) -> None:
        """Make sure that it is still held, where it is held here.

        Raises:
            RunError: another process has taken over.
        """

    def remove(self) -> None:
        """Leave nothing of it behind; for its holder alone."""


@runtime_checkable
class Store(Protocol):
    """Files by names relative to one root, parted by `/`. A file is seen whole or not at all.

    `reference` is the path or URI by which another process opens the same store, `n_parallel` how many requests at
    once are worth while. Errors beside those named: StorageError where an object store does not answer or refuses, and
    OSError where a file system does.
    """

    reference: str
    n_parallel: int

    @property
    def lock(self) -> Lock:
        """The one lock of this store."""

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """Make a file, or replace it unless it must be `new`.

        Raises:
            FileExistsError: it must be new and is there, with another content or in another process's name.
        """

    def list(self, folder: str = "") -> dict[str, int | None]:
        """What lies directly in a folder: size in bytes of files, None for folders; nothing where it is absent."""

    def has(self, names: Iterable[str]) -> bool:
        """Whether all of these files are there."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is absent is no error."""

    def fetched(self, names: Iterable[str], *, keep: bool = True) -> AbstractContextManager[Path]:
        """A local folder in which these files lie under their names, as far as they are there; not to be changed.

        Args:
            names: the files.
            keep: whether they stay beyond the block, for whoever asks next.
        """

    def working(self, *names: str, copy: bool = False) -> AbstractContextManager[Path]:
        """A local folder in which files, or folders of files, of these names are made; they are in the store when the
        block ends well.

        Args:
            names: what will be made or changed.
            copy: whether the files that the store has are there to begin with.
        """


def open_store(reference: str | Path, *, lease_s: float | None = None) -> Store:
    """The store at a path or URI.

    Args:
        reference: a path of this machine, or a URI such as s3://bucket/folder.
        lease_s: how long a holder of an object store's lock may be silent, seconds; none given: a minute.

    Raises:
        RunError: a URI of another kind, the package for it is not installed, or its storage does not answer.
    """
    if is_uri(reference):
        from tracer.storage.object_store import LEASE_S, ObjectStore

        return ObjectStore(str(reference).rstrip("/"), lease_s=lease_s or LEASE_S)
    from tracer.storage.local_store import LocalStore

    return LocalStore(Path(reference).expanduser().absolute())


def is_uri(reference: str | Path) -> bool:
    """Whether this names a place in an object store."""
    return "://" in str(reference)


def place(store: Store, name: str) -> str:
    """Path or URI of a file, for messages."""
    return f"{store.reference.rstrip('/')}/{name}"


def file_name(name: str) -> str:
    """The last part of a name."""
    return name.rsplit("/", 1)[-1]


def in_parallel(store: Store, work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Do the same with many items, as many at once as the storage rewards; results in the order of the items."""
    if store.n_parallel == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(store.n_parallel) as pool:
        yield from pool.map(work, items)
