"""Stored tensors that are multiplied, or joined from several files, as they are read.

A format's constants are folded into matrices that stay on disk, and files that each hold a part of the features are
read as one. Both are the last step: what is scaled or joined can be read, but no longer turned or cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from tracer.model.stored import StoredTensor, stored_tensor


def scaled(stored: StoredTensor, factor: Tensor) -> StoredTensor:
    """A tensor whose entries are multiplied when they are read, in float32.

    Args:
        stored: the tensor.
        factor: one number, or for a decoder one for each written layer.
    """
    return _Scaled(**_fields_of(stored), plain=stored, factor=factor.float())


def joined(parts: Sequence[StoredTensor]) -> StoredTensor:
    """Tensors one behind the other along the first axis.

    Args:
        parts: at least one, of equal shapes but for the first axis.
    """
    if len(parts) == 1:
        return parts[0]
    shape = (sum(part.shape[0] for part in parts), *parts[0].shape[1:])
    return _Joined(**_fields_of(parts[0]) | {"shape": shape}, parts=tuple(parts))


def in_memory(tensor: Tensor, path: Path, name: str) -> StoredTensor:
    """A small tensor that was worked out from what a file holds.

    Args:
        tensor: on the CPU.
        path: the file, for messages.
        name: the tensor's name, for messages.
    """
    return stored_tensor(path, name, tensor.dtype, tensor.shape, 0, held=tensor.contiguous())


def _fields_of(stored: StoredTensor) -> dict[str, Any]:
    return {field.name: getattr(stored, field.name) for field in fields(StoredTensor)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Finished(StoredTensor):
    @property
    def is_used_as_stored(self) -> bool:
        return False

    def _seen_as(self, shape: Sequence[int], strides: Sequence[int], first: int) -> NoReturn:
        raise AssertionError(f"{shape}, {strides} from {first}: scaling and joining come last")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaled(_Finished):
    plain: StoredTensor
    factor: Tensor

    def whole(self) -> Tensor:
        return self.plain.whole().float() * (self.factor[:, None] if self.factor.dim() else self.factor)

    def rows(self, rows: Tensor, written_idx: int | None = None) -> Tensor:
        found = self.plain.rows(rows, written_idx).float()
        if self.factor.dim() and written_idx is None:
            return found * self.factor[:, None]
        return found * (self.factor[written_idx] if self.factor.dim() else self.factor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joined(_Finished):
    parts: tuple[StoredTensor, ...]

    def whole(self) -> Tensor:
        return torch.cat([part.whole() for part in self.parts])

    def rows(self, rows: Tensor, written_idx: int | None = None) -> Tensor:
        rows = rows.cpu()
        ends = torch.tensor([part.shape[0] for part in self.parts]).cumsum(0)
        part_idx = torch.searchsorted(ends, rows, right=True)
        found, place = [], []
        for idx, part in enumerate(self.parts):
            chosen = (part_idx == idx).nonzero().flatten()
            found.append(part.rows(rows[chosen] - (ends[idx] - part.shape[0]), written_idx))
            place.append(chosen)
        return torch.cat(found)[torch.cat(place).argsort()]
