"""Tensors that stay in their file until they are read, whole or row by row.

A file is mapped only while it is read, so what was read once does not stay resident. A stored tensor can be turned,
cut and given axes without reading, which is how formats that lay a matrix out otherwise are brought into one form.
"""

import json
import mmap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tracer.errors import ModelError
from tracer.files.archived_tensor import ArchivedTensor

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """A tensor in a file, or in memory (`held`) where its file cannot be read in parts."""

    path: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    """In entries, as torch counts them."""
    offset: int
    """Bytes in front of the first entry."""
    held: Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """What it takes in float32."""
        return 4 * prod(self.shape)

    @property
    def is_used_as_stored(self) -> bool:
        """Whether its file holds it in float32, row by row, so that it can be mapped and needs no memory of its own."""
        plain = (prod(self.shape[axis + 1 :]) for axis in range(len(self.shape)))
        in_rows = all(size == 1 or step == n for size, step, n in zip(self.shape, self.strides, plain, strict=True))
        return self.held is None and self.dtype == torch.float32 and in_rows

    def transposed(self) -> "StoredTensor":
        """The last two axes swapped.

        Raises:
            ModelError: there are not two.
        """
        _check_axes(self, 2)
        order = [*range(len(self.shape) - 2), len(self.shape) - 1, len(self.shape) - 2]
        return self._seen_as([self.shape[axis] for axis in order], [self.strides[axis] for axis in order], 0)

    def at(self, idx: int) -> "StoredTensor":
        """One entry along the first axis, which is dropped.

        Raises:
            ModelError: there is no such entry.
        """
        _check_axes(self, 1)
        if not 0 <= idx < self.shape[0]:
            raise ModelError(
                f"{self.path}, {self.name}", found=f"{self.shape[0]} entries", expected=f"an entry {idx}",
                to_do="Check the files.",
            )  # fmt: skip
        return self._seen_as(self.shape[1:], self.strides[1:], idx * self.strides[0])

    def from_written(self, first: int, n_written: int | None = None) -> "StoredTensor":
        """Some entries of the second axis.

        Args:
            first: the first of them.
            n_written: how many; all that follow when not given.

        Raises:
            ModelError: there are not so many.
        """
        _check_axes(self, 2)
        n_written = self.shape[1] - first if n_written is None else n_written
        if not 0 <= n_written <= self.shape[1] - first:
            raise ModelError(
                f"{self.path}, {self.name}", found=f"{self.shape[1]} written layers",
                expected=f"{n_written} from layer {first} on", to_do="Check the files.",
            )  # fmt: skip
        shape = (self.shape[0], n_written, *self.shape[2:])
        return self._seen_as(shape, self.strides, first * self.strides[1])

    def with_written(self) -> "StoredTensor":
        """A second axis of one entry, which a decoder of one written layer leaves out.

        Raises:
            ModelError: it has no axis at all.
        """
        _check_axes(self, 1)
        return self._seen_as((self.shape[0], 1, *self.shape[1:]), (self.strides[0], 0, *self.strides[1:]), 0)

    def whole(self) -> Tensor:
        """All of it, on the CPU and in the file's dtype; memory is the mapped file's."""
        return self._mapped()

    def rows(self, rows: Tensor, written_idx: int | None = None) -> Tensor:
        """Some entries of the first axis, of one written layer where there are several, in memory of their own.

        Args:
            rows: their indices, in any order, repeated or not.
            written_idx: index of the second axis, which is dropped.
        """
        stored = self if written_idx is None else self.transposed_written().at(written_idx)
        distinct, place = rows.cpu().unique(return_inverse=True)
        return stored._mapped().index_select(0, distinct)[place]

    def transposed_written(self) -> "StoredTensor":
        """The written layers in front."""
        order = (1, 0, *range(2, len(self.shape)))
        return self._seen_as([self.shape[axis] for axis in order], [self.strides[axis] for axis in order], 0)

    def _seen_as(self, shape: Sequence[int], strides: Sequence[int], first: int) -> "StoredTensor":
        offset = self.offset + first * self.dtype.itemsize
        return replace(self, shape=tuple(shape), strides=tuple(strides), offset=offset)

    def _mapped(self) -> Tensor:
        if not prod(self.shape):
            return torch.zeros(self.shape, dtype=self.dtype)
        if self.held is not None:
            first, plain = self.offset // self.dtype.itemsize, self.held
        else:
            # The offset of a mapping must be a multiple of the page's, that of an array in a zip file is any number.
            start = self.offset - self.offset % mmap.ALLOCATIONGRANULARITY
            n_entries = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
            length = self.offset - start + n_entries * self.dtype.itemsize
            with self.path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_COPY, offset=start)
            plain = torch.frombuffer(mapped, dtype=self.dtype, offset=self.offset - start, count=n_entries)
            first = 0
        return plain.as_strided(self.shape, self.strides, first)


def _check_axes(tensor: StoredTensor, n_axes: int) -> None:
    if len(tensor.shape) < n_axes:
        raise ModelError(
            f"{tensor.path}, {tensor.name}", found=f"shape {tensor.shape}", expected=f"at least {n_axes} axes",
            to_do="Check the files.",
        )  # fmt: skip


def safetensors_tensors(path: Path, *, ignored: Collection[str] = ()) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name, unread.

    Args:
        path: the file.
        ignored: names that are left out, whatever they hold.

    Raises:
        ModelError: there is no such file, it is damaged, or a tensor holds something else than floating point numbers.
    """
    try:
        with safe_open(path, framework="pt"):
            pass  # checks header and length
        with path.open("rb") as file:
            n_header_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(n_header_bytes))
    except (OSError, SafetensorError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else "not a safetensors file"
        raise ModelError(
            str(path), found=found, expected="a safetensors file of transcoders",
            to_do="Check the set: a file is missing or damaged.",
        ) from error  # fmt: skip
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if name in ignored:
            continue
        if entry["dtype"] not in _DTYPES:
            raise ModelError(
                f"{path}, {name}", found=f"dtype {entry['dtype']}", expected=" or ".join(_DTYPES), to_do="Convert it."
            )
        tensors[name] = stored_tensor(
            path, name, _DTYPES[entry["dtype"]], entry["shape"], 8 + n_header_bytes + entry["data_offsets"][0]
        )
    return tensors


def stored_tensor(
    path: Path, name: str, dtype: torch.dtype, shape: Sequence[int], offset: int, held: Tensor | None = None
) -> StoredTensor:
    """A tensor that lies in a file row by row.

    Args:
        path: the file.
        name: the tensor's name, for messages.
        dtype: how its entries are stored.
        shape: its shape.
        offset: bytes in front of it.
        held: the tensor itself, where the file cannot be read in parts; the offset is 0 then.
    """
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return StoredTensor(
        path=path, name=name, dtype=dtype, shape=tuple(shape), strides=tuple(strides), offset=offset, held=held
    )


def archive_tensors(tensors: Mapping[str, ArchivedTensor]) -> dict[str, StoredTensor]:
    """The tensors of a `.npz` or `.pt` archive, unread where the archive stores them as they are.

    Args:
        tensors: what `tracer.files` found in it.

    Raises:
        ModelError: a tensor holds something else than floating point numbers.
    """
    stored = {}
    for name, found in tensors.items():
        if found.dtype not in _DTYPES.values():
            raise ModelError(
                f"{found.path}, {name}", found=str(found.dtype), expected="floating point numbers", to_do="Convert it."
            )
        is_packed = found.offset is None
        stored[name] = StoredTensor(
            path=found.path, name=name, dtype=found.dtype, shape=found.shape, strides=found.stride,
            offset=found.offset or 0, held=found.whole() if is_packed else None,
        )  # fmt: skip
    return stored
