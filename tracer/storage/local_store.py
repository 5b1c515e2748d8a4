"""A folder of this machine, or one that several machines see, as a store."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from tracer.files.writing import write_file
from tracer.storage.file_lock import FileLock
from tracer.storage.store import LOCK_NAME


class LocalStore:
    """As `Store`; `root` is absolute."""

    n_parallel = 1

    def __init__(self, root: Path) -> None:
        self.root, self.reference = root, str(root)

    @cached_property
    def lock(self) -> FileLock:
        """A lock on a file of the folder."""
        return FileLock(self.root / LOCK_NAME)

    def read(self, name: str) -> bytes:
        """As `Store.read`."""
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """As `Store.write`; that nobody else writes meanwhile is up to the lock."""
        if new and (self.root / name).exists():
            raise FileExistsError(str(self.root / name))
        write_file(self.root / name, content)

    def list(self, folder: str = "") -> dict[str, int | None]:
        """As `Store.list`; hidden files, which are not whole yet, are among them."""
        found: dict[str, int | None] = {}
        place = self.root / folder
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            try:
                found[str(path.relative_to(self.root))] = None if path.is_dir() else path.stat().st_size
            except FileNotFoundError:  # renamed or removed since the folder was read
                continue
        return found

    def has(self, names: Iterable[str]) -> bool:
        """As `Store.has`."""
        return all((self.root / name).is_file() for name in names)

    def remove(self, name: str) -> None:
        """As `Store.remove`."""
        (self.root / name).unlink(missing_ok=True)

    @contextmanager
    def fetched(self, names: Iterable[str], *, keep: bool = True) -> Iterator[Path]:  # noqa: ARG002  nothing to fetch
        """As `Store.fetched`: they are here."""
        yield self.root

    @contextmanager
    def working(self, *names: str, copy: bool = False) -> Iterator[Path]:  # noqa: ARG002
        """As `Store.working`: whoever makes a file gives it its name when it is whole."""
        self.root.mkdir(parents=True, exist_ok=True)
        yield self.root
