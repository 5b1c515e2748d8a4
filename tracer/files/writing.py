"""Writes files whole or not at all."""

import os
from pathlib import Path


def write_file(path: Path, content: bytes) -> None:
    """Write bytes so that the name shows either what it showed before or all of them: temporary name, fsync, rename,
    fsync of the folder.

    Args:
        path: the file; its folder is made where it is absent.
        content: its bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def rename_durably(temporary: Path, path: Path) -> None:
    """Give a finished file its name and make the name survive a power cut.

    Args:
        temporary: the file.
        path: its name from now on, in the same file system.
    """
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
