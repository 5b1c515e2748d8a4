"""Reads numpy's `.npz` archives without unpickling: a zip archive of `.npy` files.

A `.npy` file is a header that names dtype, shape and order, and the entries (numpy's NEP 1); arrays of Python objects
are pickles and are refused.
"""

import io
import math
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch

from tracer.files.archived_tensor import ArchivedTensor, contiguous_stride, is_possible
from tracer.files.limits import MAX_BYTES, refused
from tracer.files.zip_members import ZipMember, zip_members

_HEADER_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_NO_HEADER = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)
_MOST_HEADER_BYTES = 16_384
"""numpy itself reads a header's text up to 10,000 bytes."""
_DTYPES = {
    np.dtype(name): getattr(torch, name)
    for name in (
        "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "bool", "complex64", "complex128",
    )
}  # fmt: skip


def npz_tensors(path: Path | str, *, max_bytes: int = MAX_BYTES) -> dict[str, ArchivedTensor]:
    """The arrays of an archive by name; their entries are read on demand.

    Args:
        path: the `.npz` file; members may be compressed, as `np.savez_compressed` writes them.
        max_bytes: the most that one compressed array may take.

    Raises:
        DataError: the file is no whole zip archive or asks for too much, or a member is no `.npy` file of little-endian
            numbers.
    """
    members = zip_members(Path(path), max_bytes=max_bytes, may_be_compressed=True)
    return {name.removesuffix(".npy"): _stored(member) for name, member in members.items()}


def _stored(member: ZipMember) -> ArchivedTensor:
    if not member.name.endswith(".npy"):
        raise refused(member.path, found=f"a member {member.name!r}", expected="arrays, whose names end in .npy")
    header = io.BytesIO(member.read(0, min(member.n_bytes, _MOST_HEADER_BYTES)))
    try:
        version = np.lib.format.read_magic(header)
        if version not in _HEADER_READERS:
            raise ValueError(f"version {version}")
        shape, is_fortran, dtype = _HEADER_READERS[version](header)
    except _NO_HEADER as error:
        raise refused(
            member.path, found=f"{member.name}: {str(error)[:200]}", expected="the header of a numpy array"
        ) from error
    if dtype not in _DTYPES:
        kind = "Python objects, which are a pickle" if dtype.hasobject else str(dtype)
        raise refused(
            member.path, found=f"{member.name} of {kind}", expected="little-endian numbers",
            to_do="Write it anew as an array of plain numbers.",
        )  # fmt: skip
    n_bytes, start = math.prod(shape) * dtype.itemsize, header.tell()
    stride = contiguous_stride(shape[::-1])[::-1] if is_fortran else contiguous_stride(shape)
    if not is_possible(shape, stride) or n_bytes != member.n_bytes - start:
        raise refused(
            member.path, found=f"{member.name} of shape {shape} in {member.n_bytes - start:,} bytes",
            expected=f"{n_bytes:,} bytes",
        )  # fmt: skip
    return ArchivedTensor(member=member, start=start, dtype=_DTYPES[dtype], shape=shape, stride=stride)
