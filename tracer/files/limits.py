"""What a file of others may cost, and how one is refused."""

import json
import reprlib
from pathlib import Path
from typing import Any

from tracer.errors import DataError

MAX_BYTES = 16 * 1024**3
"""Tensors that one file may bring into memory."""
MAX_MEMBERS = 65_536
"""Members of one archive."""
MAX_DIRECTORY_BYTES = 16 * 1024**2
"""An archive's own table of contents."""
MAX_HEADER_BYTES = 16 * 1024**2
"""What describes the tensors of an archive: a torch checkpoint's `data.pkl`."""
MAX_RATIO = 200
"""Unpacked against packed bytes of a compressed member, where it unpacks to more than `SMALL_BYTES`."""
SMALL_BYTES = 1024**2
MAX_JSON_BYTES = 512 * 1024**2
CHECK_THE_FILE = "The file is damaged or was not made by the usual programs; fetch or write it anew."


N_SHOWN_CHARACTERS = 100
_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2


def shown(value: Any) -> str:
    """A value in an error: its beginning, whatever its depth and size.

    Written out, a few bytes of a pickle, in which lists share their entries, can be larger than any memory.
    """
    return _SHORT.repr(value)[:N_SHOWN_CHARACTERS]


def refused(path: Path, *, found: str, expected: str, to_do: str = CHECK_THE_FILE) -> DataError:
    """The error with which a file is refused; the caller raises it."""
    return DataError(str(path), found=found, expected=expected, to_do=to_do)


def checked_size(path: Path, max_bytes: int | None = None) -> int:
    """Size of a file in bytes.

    Args:
        path: the file.
        max_bytes: the most it may have; any number when not given.

    Raises:
        DataError: there is no such file, or it is too large.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise refused(path, found=found, expected="a file", to_do="Check the path.")
    n_bytes = path.stat().st_size
    if max_bytes is not None and n_bytes > max_bytes:
        raise refused(
            path, found=f"{n_bytes:,} bytes", expected=f"at most {max_bytes:,}",
            to_do="If the file is meant to be this large, raise the limit.",
        )  # fmt: skip
    return n_bytes


def read_json_file(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Contents of a JSON file.

    Args:
        path: the file.
        max_bytes: the largest file that is read.

    Raises:
        DataError: there is no such file, or it is too large, no UTF-8, no JSON or too deeply nested.
    """
    checked_size(path, max_bytes)
    try:
        return json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise refused(path, found=f"{type(error).__name__}: {str(error)[:200]}", expected="JSON in UTF-8") from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
