"""Zip archives made by hand, whole and broken."""

import struct
import zipfile
from pathlib import Path


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def write_checkpoint(path: Path, pickled: bytes, storages: dict[str, bytes] | None = None, **others: bytes) -> Path:
    """A torch archive around a pickle."""
    data = {f"archive/data/{key}": content for key, content in (storages or {}).items()}
    return write_zip(path, {"archive/data.pkl": pickled, **{f"archive/{k}": v for k, v in others.items()}, **data})


def directory_fields(path: Path, name: str) -> tuple[bytearray, int]:
    """An archive's bytes, and where the entry of a member starts in its table of contents."""
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    while content[place + 46 : place + 46 + len(name)] != name.encode():
        place = content.rindex(b"PK\x01\x02", 0, place)
    return content, place


def with_directory_field(path: Path, name: str, at: int, value: int, size: str = "<I") -> Path:
    """Overwrite a number in a member's entry: 20 is the packed size, 24 the unpacked one, 42 the header's place."""
    content, place = directory_fields(path, name)
    struct.pack_into(size, content, place + at, value)
    path.write_bytes(content)
    return path
