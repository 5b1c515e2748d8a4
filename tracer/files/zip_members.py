"""The members of a zip archive as places in the file, once all that the archive says of itself is found in order."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tracer.files.limits import MAX_DIRECTORY_BYTES, MAX_MEMBERS, MAX_RATIO, SMALL_BYTES, checked_size, refused

_LOCAL_HEADER = struct.Struct("<4s22xHH")
"""A member's header in front of its bytes: signature, and the lengths of name and extra field (APPNOTE 4.3.7)."""
_ENCRYPTED = 0x1
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, OverflowError, NotImplementedError,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipMember:
    """Where a member's bytes lie."""

    path: Path
    name: str
    offset: int
    """First byte in the file, behind the member's header."""
    n_bytes: int
    """Unpacked size."""
    is_compressed: bool

    def read(self, start: int = 0, n_bytes: int | None = None) -> bytearray:
        """Some bytes of the member, by default all of it.

        Args:
            start: the first one.
            n_bytes: how many; up to the member's end when not given.

        Raises:
            DataError: the file no longer holds them, or they do not unpack.
        """
        n_bytes = self.n_bytes - start if n_bytes is None else n_bytes
        assert 0 <= start <= start + n_bytes <= self.n_bytes, "bytes outside the member"
        try:
            found = self._unpacked(start, n_bytes) if self.is_compressed else self._stored(start, n_bytes)
        except _UNREADABLE as error:
            raise refused(self.path, found=f"{self.name}: {error}", expected="a readable member") from error
        if len(found) != n_bytes:
            raise refused(self.path, found=f"the file ends in {self.name}", expected=f"{self.n_bytes:,} bytes of it")
        return found

    def _stored(self, start: int, n_bytes: int) -> bytearray:
        found = bytearray(n_bytes)
        with self.path.open("rb") as file:
            file.seek(self.offset + start)
            n_found = file.readinto(found)
        return found[:n_found] if n_found < n_bytes else found

    def _unpacked(self, start: int, n_bytes: int) -> bytearray:
        with zipfile.ZipFile(self.path) as archive, archive.open(self.name) as member:
            member.seek(start)
            return bytearray(member.read(n_bytes))


class _ShortReads(io.BufferedReader):
    """A file from which no more than a table of contents can be read at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        most = MAX_DIRECTORY_BYTES + 1
        found = super().read(most if size is None or size < 0 else min(size, most))
        if len(found) == most:
            raise zipfile.BadZipFile(f"a table of contents of more than {MAX_DIRECTORY_BYTES:,} bytes")
        return found


def zip_members(path: Path, *, max_bytes: int, may_be_compressed: bool) -> dict[str, ZipMember]:
    """All members by name, folders left out.

    Args:
        path: the archive.
        max_bytes: the most that one compressed member may unpack to.
        may_be_compressed: whether members may be compressed.

    Raises:
        DataError: the file is no zip archive or a damaged one, has too many members, members of unsafe or equal names,
            that lie over each other, are encrypted or compressed in an unforeseen way, or unpack to too much.
    """
    n_file_bytes = checked_size(path)
    members = {}
    try:
        with _ShortReads(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            _check_names(path, infos)
            for info in infos:
                if info.is_dir() and info.file_size == info.compress_size == 0:
                    continue
                _check_packing(path, info, max_bytes, may_be_compressed)
                members[info.filename] = _placed(path, file, info)
            ends = {name: members[name].offset + archive.getinfo(name).compress_size for name in members}
            _check_places(path, [info for info in infos if info.filename in members], ends, archive.start_dir)
    except _UNREADABLE as error:
        raise refused(
            path, found=f"no readable zip archive of {n_file_bytes:,} bytes ({error})", expected="a whole zip archive"
        ) from error
    return members


def _check_names(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_MEMBERS:
        raise refused(path, found=f"{len(infos):,} members", expected=f"at most {MAX_MEMBERS:,}")
    seen: set[str] = set()
    for info in infos:
        name = PurePosixPath(info.filename)
        escapes = name.is_absolute() or ".." in name.parts or "\\" in info.filename or ":" in info.filename
        # The archive's table may hold a zero byte at which `filename` was cut.
        if escapes or info.filename in seen or "\0" in info.orig_filename:
            raise refused(
                path, found=f"a member {info.orig_filename[:200]!r}", expected="distinct names that stay inside"
            )
        seen.add(info.filename)


def _check_packing(path: Path, info: zipfile.ZipInfo, max_bytes: int, may_be_compressed: bool) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise refused(path, found=f"{info.filename}, encrypted", expected="members without a password")
    if info.compress_type == zipfile.ZIP_STORED:
        if info.file_size != info.compress_size:
            raise refused(path, found=f"{info.filename} of two sizes", expected="one size of a member that is stored")
    elif info.compress_type != zipfile.ZIP_DEFLATED or not may_be_compressed:
        allowed = "stored or deflated" if may_be_compressed else "stored"
        raise refused(
            path, found=f"{info.filename}, compressed by method {info.compress_type}", expected=f"members {allowed}"
        )
    elif info.file_size > max(SMALL_BYTES, MAX_RATIO * info.compress_size) or info.file_size > max_bytes:
        raise refused(
            path, found=f"{info.filename}, {info.compress_size:,} bytes that unpack to {info.file_size:,}",
            expected=f"at most {max_bytes:,} bytes, and at most {MAX_RATIO} times as many as before",
        )  # fmt: skip


def _placed(path: Path, file: io.BufferedReader, info: zipfile.ZipInfo) -> ZipMember:
    file.seek(info.header_offset)
    signature, n_name, n_extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no member where {info.filename} should be")
    return ZipMember(
        path=path,
        name=info.filename,
        offset=info.header_offset + _LOCAL_HEADER.size + n_name + n_extra,
        n_bytes=info.file_size,
        is_compressed=info.compress_type != zipfile.ZIP_STORED,
    )


def _check_places(path: Path, infos: Iterable[zipfile.ZipInfo], ends: dict[str, int], n_member_bytes: int) -> None:
    """Members lie one behind the other, and before the table of contents."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in ordered), n_member_bytes]
    for info, next_start in zip(ordered, starts[1:], strict=True):
        if ends[info.filename] > next_start:
            raise refused(path, found=f"{info.filename} reaches into what follows it", expected="members apart")
