"""A tensor that stays in its file: read whole, or only the rows that are asked for."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from tracer.files.zip_members import ZipMember

MAX_DIMS = 64
MAX_ENTRIES = 2**60


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedTensor:
    """Where a tensor's entries lie, and how they are arranged."""

    member: ZipMember
    start: int
    """First byte of the first entry within the member."""
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """Entries from one index to the next, in each dimension."""

    @property
    def path(self) -> Path:
        """The file."""
        return self.member.path

    @property
    def offset(self) -> int | None:
        """First byte in the file; None where the member is compressed."""
        return None if self.member.is_compressed else self.member.offset + self.start

    @property
    def n_bytes(self) -> int:
        """What the tensor takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def n_span_bytes(self) -> int:
        """From the first byte to the last that belongs to the tensor."""
        return n_span(self.shape, self.stride) * self.dtype.itemsize

    def whole(self) -> Tensor:
        """All of it, on the CPU and in the file's dtype and arrangement.

        Raises:
            DataError: the file no longer holds it.
        """
        entries = as_entries(self.member.read(self.start, self.n_span_bytes), self.dtype)
        return entries.as_strided(self.shape, self.stride)

    def rows(self, rows: Int[Tensor, " row"]) -> Tensor:
        """Some entries of the first dimension, in the order asked for; only their bytes are read where they lie apart.

        Args:
            rows: their indices, repeated ones too.

        Raises:
            DataError: the file no longer holds them.
            IndexError: the tensor has no such row.
        """
        distinct, place = rows.cpu().unique(return_inverse=True)
        if len(distinct) and not (int(distinct[0]) >= 0 and int(distinct[-1]) < self.shape[0]):
            raise IndexError(f"rows {int(distinct[0])} to {int(distinct[-1])} of a tensor of {self.shape}")
        if not len(distinct):
            return torch.empty((0, *self.shape[1:]), dtype=self.dtype)
        lie_apart = self.stride[0] >= n_span(self.shape[1:], self.stride[1:])
        if self.member.is_compressed or not lie_apart or not self.n_bytes:
            return self.whole()[rows.cpu()]
        return torch.cat([self._stretch(first, end) for first, end in _runs(distinct.tolist())])[place]

    def _stretch(self, first: int, end: int) -> Tensor:
        """Consecutive rows."""
        shape = (end - first, *self.shape[1:])
        start = self.start + first * self.stride[0] * self.dtype.itemsize
        found = self.member.read(start, n_span(shape, self.stride) * self.dtype.itemsize)
        return as_entries(found, self.dtype).as_strided(shape, self.stride)


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a tensor whose last index runs fastest."""
    return tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))


def is_possible(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    """Whether a tensor may have these: a stride a dimension, nothing negative, no more entries than can be counted."""
    if len(shape) != len(stride) or len(shape) > MAX_DIMS or min((0, *shape, *stride)) < 0:
        return False
    return math.prod(max(1, size) for size in shape) < MAX_ENTRIES and max((0, *stride)) < MAX_ENTRIES


def n_span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Entries from the first to the last, those between that belong to others included."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def as_entries(found: bytearray, dtype: torch.dtype) -> Tensor:
    """Bytes as a tensor of one dimension that shares their memory."""
    return torch.frombuffer(found, dtype=dtype) if found else torch.empty(0, dtype=dtype)


def _runs(rows: Iterable[int]) -> list[tuple[int, int]]:
    """First and end of the stretches of consecutive rows in a rising list."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and runs[-1][1] == row:
            runs[-1] = (runs[-1][0], row + 1)
        else:
            runs.append((row, row + 1))
    return runs
