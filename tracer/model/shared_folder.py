"""Folders that the processes of one machine share, each written once: whole, or not at all."""

import fcntl
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tracer.files.writing import rename_durably

logger = logging.getLogger(__name__)

N_KEPT = 8
"""Folders that a cache keeps; the one whose last use is longest ago goes first."""
_LOCK, _UNFINISHED = ".lock", ".unfinished"


def shared_folder(cache: Path, key: str, write: Callable[[Path], None], *, n_bytes: int) -> Path | None:
    """The folder of a key, written by the first process that asks; others wait meanwhile.

    It is written under another name, which is cleared away by whoever comes next if the writer is killed. A folder that
    is removed while other processes have its files mapped stays theirs until they end, on a local disk.

    Args:
        cache: holds the folders of all keys.
        key: stands for all that the content depends on.
        write: fills an empty folder.
        n_bytes: what it will take, about.

    Returns:
        The folder; None, with a warning, where the cache cannot hold it: then every process does without.
    """
    folder = cache / key
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (cache / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                _write(cache, folder, write, n_bytes)
            os.utime(folder)
    except OSError as error:
        logger.warning("%s: cannot hold weights that processes share, each will hold its own: %s", cache, error)
        return None
    return folder


def _write(cache: Path, folder: Path, write: Callable[[Path], None], n_bytes: int) -> None:
    for left in cache.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(left)
    finished = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for old in finished[: max(0, len(finished) - N_KEPT + 1)]:
        shutil.rmtree(old)
    free_bytes = shutil.disk_usage(cache).free
    if free_bytes < n_bytes:
        raise OSError(f"{free_bytes:,} bytes are free, {n_bytes:,} needed")
    unfinished = folder.with_name(folder.name + _UNFINISHED)
    unfinished.mkdir()
    try:
        write(unfinished)
        for path in unfinished.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        rename_durably(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
