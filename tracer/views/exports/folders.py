"""A folder, or a file, that appears whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tracer.errors import ArtifactError
from tracer.files.writing import rename_durably


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the `with` ends without an error.

    Args:
        out: a folder that is absent or empty.

    Raises:
        ArtifactError: something is there already.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        found = "a folder with files in it" if out.is_dir() else "a file"
        to_do = "Choose another folder, or remove this one."
        raise ArtifactError(str(out), found=found, expected="a new or an empty folder", to_do=to_do)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        rename_durably(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_file(out: Path) -> Iterator[TextIO]:
    """A temporary file of text beside `out` that takes its name when the `with` ends without an error.

    Args:
        out: the file, which is replaced if it is there.

    Raises:
        ArtifactError: a folder has this name.
    """
    if out.is_dir():
        raise ArtifactError(str(out), found="a folder", expected="a file to write", to_do="Choose another name.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename_durably(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
