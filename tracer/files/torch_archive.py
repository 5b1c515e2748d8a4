"""Reads torch's zip checkpoints (`.pt`, `.pth`, `.bin`) without executing anything of the pickle in them.

Such an archive holds `data.pkl`, in which a tensor is a call of `torch._utils._rebuild_tensor_v2` on a storage named by
a persistent id `("storage", class, key, device, n_entries)`, and the storage's bytes in `data/{key}`, uncompressed
(torch's `torch/serialization.py`, `torch/_utils.py`). These calls, `OrderedDict`, `torch.Size`, `torch.device` and
dtypes are given their meaning by hand; every other class and function is refused by name, unless its package was named
by the caller, when it becomes an inert record.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracer.errors import DataError
from tracer.files.archived_tensor import ArchivedTensor, as_entries, is_possible, n_span
from tracer.files.limits import MAX_BYTES, MAX_HEADER_BYTES, checked_size, refused, shown
from tracer.files.pickle_machine import Global, Inert, Meanings, unpickled
from tracer.files.zip_members import ZipMember, zip_members

_DTYPE_NAMES = (
    "float16", "bfloat16", "float32", "float64", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32",
    "int64", "bool", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
)  # fmt: skip
_DTYPES = {f"torch.{name}": getattr(torch, name) for name in _DTYPE_NAMES}
_STORAGE_DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Half": torch.float16, "BFloat16": torch.bfloat16, "Float": torch.float32, "Double": torch.float64,
        "Byte": torch.uint8, "Char": torch.int8, "Short": torch.int16, "Int": torch.int32, "Long": torch.int64,
        "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128,
    }.items()
} | {"torch.storage.UntypedStorage": torch.uint8}  # fmt: skip
_CALLS = frozenset({
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
    "collections.OrderedDict", "torch.Size", "torch.device",
})  # fmt: skip
_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu", "meta"})


def read_archive(
    path: Path | str, *, max_bytes: int = MAX_BYTES, packages: Collection[str] = (), lazy: bool = False
) -> Any:
    """What a checkpoint holds, as plain data: dicts, lists, tuples, strings, numbers, None, dtypes and tensors on the
    CPU. Tensors that share a storage in the file share memory.

    Args:
        path: the checkpoint.
        max_bytes: the most that its tensors may take in memory.
        packages: top-level packages whose classes may occur; their objects become `Inert` records.
        lazy: leave tensors in the file, as `ArchivedTensor`.

    Raises:
        DataError: the file is no zip checkpoint, is damaged, asks for too much, or holds a class or function that is
            not known.
    """
    path = Path(path)
    archive = _Archive(
        path=path, members=_members(path, max_bytes), max_bytes=max_bytes, packages=frozenset(packages), lazy=lazy
    )
    return unpickled(
        bytes(archive.members["data.pkl"].read()),
        path,
        Meanings(of_global=archive.of_global, of_call=archive.of_call, of_reference=archive.of_reference),
    )


def archive_tensors(path: Path | str, *, max_bytes: int = MAX_BYTES) -> dict[str, ArchivedTensor]:
    """The tensors of a state dict by name; their bytes are read on demand.

    Args:
        path: the checkpoint.
        max_bytes: the most that one of its tensors may take in memory.

    Raises:
        DataError: as `read_archive`, or the checkpoint is no dict of tensors.
    """
    path = Path(path)
    found = read_archive(path, max_bytes=max_bytes, lazy=True)
    entries = found.items() if isinstance(found, dict) else [("the whole", found)]
    for name, value in entries:
        if not isinstance(name, str) or not isinstance(value, ArchivedTensor):
            raise refused(
                path, found=f"{name!r}: {type(value).__name__}", expected="tensors by name",
                to_do="Write the state dict alone, or as safetensors.",
            )  # fmt: skip
    return dict(entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Storage:
    member: ZipMember
    dtype: torch.dtype


@dataclass(slots=True, kw_only=True)
class _Archive:
    """One file while it is read."""

    path: Path
    members: dict[str, ZipMember]
    max_bytes: int
    packages: frozenset[str]
    lazy: bool
    held: dict[str, bytearray] = field(default_factory=dict)
    """Storages that were read."""
    n_held_bytes: int = 0

    def of_global(self, name: Global) -> Any:
        """A dtype, or the name itself where it is known."""
        dotted = str(name)
        if dotted in _DTYPES:
            return _DTYPES[dotted]
        if dotted in _STORAGE_DTYPES or dotted in _CALLS or name.module.partition(".")[0] in self.packages:
            return name
        raise self._refusal(dotted)

    def of_call(self, function: Global, arguments: tuple[Any, ...]) -> Any:
        """A tensor, or another value that is known; a record of the call otherwise."""
        match str(function), arguments:
            case "torch._utils._rebuild_tensor_v2", (_Storage() as storage, offset, shape, stride, bool(), _, *rest):
                return self._tensor(storage, storage.dtype, offset, shape, stride, rest)
            case "torch._utils._rebuild_tensor_v3", (
                _Storage() as storage, offset, shape, stride, bool(), _, torch.dtype() as dtype, *rest,
            ):  # fmt: skip
                return self._tensor(storage, dtype, offset, shape, stride, rest)
            case "torch._utils._rebuild_parameter", ((Tensor() | ArchivedTensor()) as tensor, bool(), _):
                return tensor
            case "collections.OrderedDict", ():
                return {}
            case "torch.Size", (tuple() as sizes,) if _are_counts(sizes):
                return torch.Size(sizes)
            case "torch.device", (str() as kind, *index) if kind in _DEVICES and _are_counts(index):
                return torch.device(kind, *index[:1])
        if function.module.partition(".")[0] in self.packages:
            return Inert(module=function.module, name=function.name, arguments=arguments)
        raise self._refusal(f"{function}, called in an unforeseen way")

    def of_reference(self, reference: Any) -> _Storage:
        """A storage of the archive."""
        match reference:
            case ("storage", Global() as kind, str() as key, str(), int() as n_entries) if (
                str(kind) in _STORAGE_DTYPES and f"data/{key}" in self.members
            ):
                storage = _Storage(member=self.members[f"data/{key}"], dtype=_STORAGE_DTYPES[str(kind)])
                if n_entries * storage.dtype.itemsize == storage.member.n_bytes:
                    return storage
                found = f"{storage.member.n_bytes:,} bytes in {storage.member.name}"
                raise refused(self.path, found=found, expected=f"{n_entries} entries of {storage.dtype}")
        raise refused(self.path, found="a tensor without its bytes", expected="the storage of every tensor")

    def _tensor(
        self, storage: _Storage, dtype: torch.dtype, offset: Any, shape: Any, stride: Any, rest: list[Any]
    ) -> Tensor | ArchivedTensor:
        # What may follow tells of a conjugate or negative that was put off.
        is_plain = isinstance(shape, tuple) and isinstance(stride, tuple) and not any(rest)
        if not is_plain or not _are_counts([offset, *shape, *stride]):
            raise self._refusal("a tensor that is not plain")
        n_held = storage.member.n_bytes // dtype.itemsize
        if not is_possible(shape, stride) or offset + n_span(shape, stride) > n_held:
            found = f"a tensor of shape {shown(shape)} and stride {shown(stride)} from entry {shown(offset)}"
            raise refused(self.path, found=found, expected=f"one within the {n_held:,} entries of its storage")
        stored = ArchivedTensor(
            member=storage.member, start=offset * dtype.itemsize, dtype=dtype, shape=shape, stride=stride
        )
        self._check_room(stored.n_bytes)
        if self.lazy:
            return stored
        return as_entries(self._bytes_of(storage.member), dtype).as_strided(shape, stride, offset)

    def _bytes_of(self, member: ZipMember) -> bytearray:
        if member.name not in self.held:
            self.n_held_bytes += member.n_bytes
            self._check_room(self.n_held_bytes)
            self.held[member.name] = member.read()
        return self.held[member.name]

    def _check_room(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            raise refused(
                self.path, found=f"tensors of {n_bytes:,} bytes", expected=f"at most {self.max_bytes:,}",
                to_do="If the file is meant to be this large, raise the limit.",
            )  # fmt: skip

    def _refusal(self, found: str) -> DataError:
        return refused(
            self.path, found=found, expected="tensors and plain data",
            to_do="Nothing of it was executed. Write the file anew with plain data, or as safetensors.",
        )  # fmt: skip


def _are_counts(values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


def _members(path: Path, max_bytes: int) -> dict[str, ZipMember]:
    """The archive's members without the folder that they all lie in."""
    checked_size(path)
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if not is_zip:
        raise refused(
            path, found="a file that is no zip archive", expected="a checkpoint as torch 1.6 and later write it",
            to_do="Where it is an older checkpoint, load it with weights_only=True and save it anew.",
        )  # fmt: skip
    members = zip_members(path, max_bytes=max_bytes, may_be_compressed=False)
    folders = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise refused(path, found=f"{len(folders)} members */data.pkl", expected="one, as in a torch checkpoint")
    members = {name.removeprefix(folders[0]): member for name, member in members.items()}
    n_bytes = members["data.pkl"].n_bytes
    if n_bytes > MAX_HEADER_BYTES:
        raise refused(path, found=f"data.pkl of {n_bytes:,} bytes", expected=f"at most {MAX_HEADER_BYTES:,}")
    order = members.get("byteorder")
    if order is not None and (order.n_bytes != len("little") or order.read() != b"little"):
        raise refused(path, found="bytes in another order", expected="a little-endian checkpoint")
    return members
