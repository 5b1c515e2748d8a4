"""The lock of a folder: a lock on a file, which the system takes away when its process dies.

The file also counts the sessions that held it, so that what one session writes can never share a name with what a
session before it wrote (whose processes may still be writing when the next one starts).
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tracer.errors import RunError
from tracer.storage.store import Say


class FileLock:
    """As `Lock`, by `flock` on the file `path`; works on NFS from version 4 on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made_folders: list[Path] = []

    @contextmanager
    def held(self, say: Say) -> Iterator[int]:  # noqa: ARG002  nothing to wait for
        """As `Lock.held`; the folder is made where it is absent."""
        folder = self._path.parent
        self._made_folders = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        with self._locked_file() as file:
            session = _next_session(file.readline())
            file.seek(0)
            file.truncate()
            file.write(json.dumps({"session": session, "pid": os.getpid(), "host": socket.gethostname()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
            yield session

    def holder(self) -> str | None:
        """As `Lock.holder`."""
        try:
            file = self._path.open(encoding="utf-8")
        except FileNotFoundError:
            return None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _words(file.readline())
        return None

    def confirm(self) -> None:
        """As `Lock.confirm`: the system sees to it."""

    def remove(self) -> None:
        """As `Lock.remove`, with the folders that were made for it, unless other things are in them by now."""
        self._path.unlink(missing_ok=True)
        for folder in self._made_folders:
            try:
                folder.rmdir()
            except OSError:
                return

    def _locked_file(self) -> TextIO:
        """The open file, held: a lock on a file that its last holder removed would keep nobody out, so try again."""
        while True:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8")
            except OSError as error:
                raise RunError(
                    str(self._path), found=str(error), expected="a writable place", to_do="Choose another --out."
                ) from error
            if not _take(file):
                with file:
                    raise held_by_another(str(self._path), _words(file.readline()))
            if _lies_at(self._path, file):
                return file
            file.close()


def held_by_another(where: str, holder: str) -> RunError:
    """The error of a process that comes second."""
    return RunError(
        where,
        found=f"another driver of this run: {holder}",
        expected="one driver per run",
        to_do="Wait for it, or end it; then run the same command again.",
    )


def _take(file: TextIO) -> bool:
    """Lock; a second look tells a holder from `holder`, which holds the lock for no longer than it takes to ask."""
    for pause_s in (0.05, 0.0):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)
        else:
            return True
    return False


def _lies_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _words(line: str) -> str:
    try:
        holder = json.loads(line)
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError):
        return "a process that is just starting"


def _next_session(line: str) -> int:
    """From 0 where the file is new, or damaged: who holds the lock knows by what else is there how far it was."""
    try:
        return json.loads(line)["session"] + 1
    except (ValueError, KeyError, TypeError):
        return 0
