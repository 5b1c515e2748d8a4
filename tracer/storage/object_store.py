"""A prefix of an object store as a store."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from functools import cached_property
from io import BytesIO
from pathlib import Path

from tracer.storage.lease import Lease
from tracer.storage.objects import create_settled, open_objects
from tracer.storage.store import in_parallel
from tracer.storage.transfers import download, in_cache, scratch_folder, told_of, tried, upload

LEASE_S = 60.0
CACHE_VARIABLE = "TRACER_CACHE"
"""Environment variable for the folder of what was fetched; else ~/.cache/tracer."""


class ObjectStore:
    """As `Store`, at a URI.

    What a run must not overwrite (its lease, its receipts) is written with conditions. While the lease is held here,
    every write first makes sure that it still is.
    """

    n_parallel = 16

    def __init__(self, reference: str, *, lease_s: float = LEASE_S) -> None:
        self.reference, self._lease_s = reference, lease_s
        self._objects = open_objects(reference)

    @cached_property
    def lock(self) -> Lease:
        """A lease on an object."""
        return Lease(self._objects, self.reference, lease_s=self._lease_s)

    def read(self, name: str) -> bytes:
        """As `Store.read`."""
        found = tried(lambda: self._objects.read(name))
        if found is None:
            raise FileNotFoundError(f"{self.reference}/{name}")
        return found[0]

    def write(self, name: str, content: bytes, *, new: bool = False) -> None:
        """As `Store.write`; a `new` file that another process made at the same moment is found there."""
        self.lock.confirm()
        if not new:
            tried(lambda: self._objects.upload(name, BytesIO(content)))
        elif create_settled(self._objects, name, content) is None:
            raise FileExistsError(f"{self.reference}/{name}")

    def list(self, folder: str = "") -> dict[str, int | None]:
        """As `Store.list`."""
        return dict(sorted(self._objects.list(folder).items()))

    def has(self, names: Iterable[str]) -> bool:
        """As `Store.has`."""
        versions = in_parallel(self, self._objects.version, names)
        return all([version is not None for version in versions])

    def remove(self, name: str) -> None:
        """As `Store.remove`."""
        self.lock.confirm()
        self._objects.remove(name)

    @contextmanager
    def fetched(self, names: Iterable[str], *, keep: bool = True) -> Iterator[Path]:
        """As `Store.fetched`: in the cache of this machine, where a file stays until it has another version here."""
        if keep:
            for name in names:
                self._refresh(name)
            with told_of(self._cache, self.reference):
                yield self._cache
            return
        with self._scratch() as folder:

            def fetch(name: str) -> None:
                download(self._objects, name, folder / name)

            list(in_parallel(self, fetch, names))
            yield folder

    @contextmanager
    def working(self, *names: str, copy: bool = False) -> Iterator[Path]:
        """As `Store.working`: in a folder of its own, which is uploaded and removed at the end."""
        with self._scratch() as folder:
            for name in names if copy else ():
                download(self._objects, name, folder / name)
            yield folder
            for place in (folder / name for name in names):
                for path in [place] if place.is_file() else sorted(place.rglob("*")):
                    self.lock.confirm()
                    upload(self._objects, path, path.relative_to(folder).as_posix())

    @property
    def _cache(self) -> Path:
        folder = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/tracer").expanduser().absolute()
        return folder / "runs" / hashlib.sha256(self.reference.encode()).hexdigest()[:16]

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        with scratch_folder(self._cache) as folder, told_of(folder, self.reference):
            yield folder

    def _refresh(self, name: str) -> None:
        """Bring one file of the cache up to date; processes of one machine fetch it once."""
        path, note = self._cache / name, self._cache / f"{name}.version"
        with in_cache(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            guard = (path.parent / ".fetching").open("w")
        with guard:
            flock(guard, LOCK_EX)
            version = self._objects.version(name)
            if version is not None and path.is_file() and note.is_file() and note.read_text() == version:
                return
            note.unlink(missing_ok=True)
            if version is None:
                path.unlink(missing_ok=True)
                return
            download(self._objects, name, path)
            if self._objects.version(name) == version:  # else it was replaced meanwhile, and is fetched again next time
                note.write_text(version)
