"""Weights in float32 that the processes of one machine hold once.

Matrices that a file holds in float32, row by row, are mapped from it: processes that read the same file share its
memory. Any other (in half precision, laid out the other way round, with constants folded in, packed) every process
converts for itself. Here such matrices are written to a folder in the form in which they are used, and mapped from
there. What is read is bit by bit what would have been converted.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.hub import UNREAD_SUFFIXES
from tracer.model.readers.set_files import SetFiles, settings_of
from tracer.model.references import content_hash
from tracer.model.shared_folder import shared_folder
from tracer.model.stored import StoredTensor, safetensors_tensors

_FORMAT = 1
"""Part of every key: raised when what is written changes."""
_SET_FILE = "transcoders.safetensors"
_ALIGNMENT_BYTES = 64
_N_ROWS_AT_ONCE = 4096


def shared_checkpoint(folder: Path, cache: Path) -> Path:
    """A checkpoint with weights in float32.

    Args:
        folder: the checkpoint.
        cache: where the other one lies.

    Returns:
        `folder` itself where its weights are float32, quantised or not in safetensors, or the cache cannot hold more.
    """
    names = _weight_files(folder)
    try:
        files = {name: safetensors_tensors(folder / name) for name in names}
    except ModelError:
        return folder
    tensors = [tensor for found in files.values() for tensor in found.values()]
    dtypes = {tensor.dtype for tensor in tensors}
    if dtypes <= {torch.float32} or torch.float64 in dtypes:
        return folder

    def write(into: Path) -> None:
        for path in folder.iterdir():
            is_weights = path.suffix in (*UNREAD_SUFFIXES, ".safetensors")
            if path.is_file() and not is_weights and not path.name.startswith("."):
                shutil.copyfile(path, into / path.name)
        for name, found in files.items():
            _write_float32(into / name, found)

    key = f"checkpoint-{content_hash(folder)}-{_FORMAT}"
    return shared_folder(cache, key, write, n_bytes=sum(tensor.n_bytes for tensor in tensors)) or folder


def shared_set(files: SetFiles, source_hash: str, cache: Path, held: Collection[str]) -> SetFiles:
    """A transcoder set whose matrices lie in their files as they are used.

    Args:
        files: the set, checked.
        source_hash: of its files.
        cache: where those lie that do not.
        held: names of the matrices that are held in memory; others stay where they are.

    Returns:
        The same set, some of its matrices elsewhere; `files` itself where none would be, or the cache cannot hold more.
    """
    wanted = {
        f"{layer}.{name}": tensor
        for layer, found in enumerate(files.layers)
        for name, tensor in found.stored()
        if name in held and not tensor.is_used_as_stored
    }
    if not wanted:
        return files
    key = f"set-{_digest(source_hash, wanted)}-{_FORMAT}"
    n_bytes = sum(tensor.n_bytes for tensor in wanted.values())
    folder = shared_folder(cache, key, lambda into: _write_float32(into / _SET_FILE, wanted), n_bytes=n_bytes)
    if folder is None:
        return files
    shared = safetensors_tensors(folder / _SET_FILE)
    layers = []
    for layer, found in enumerate(files.layers):
        moved: dict[str, Any] = {name: shared[f"{layer}.{name}"] for name in held if f"{layer}.{name}" in shared}
        layers.append(replace(found, **moved))
    return replace(files, layers=tuple(layers))


def _weight_files(folder: Path) -> list[str]:
    """Names of the files of weights that transformers reads; none where they are not safetensors."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return ["model.safetensors"]
    return sorted(set(settings_of(index).get("weight_map", {}).values())) if index.is_file() else []


def _digest(source_hash: str, tensors: Mapping[str, StoredTensor]) -> str:
    """Stands for the tensors as they are read.

    Some rows of each are part of it: how a reader folds and turns what a file holds may change while the file does not.
    """
    digest = hashlib.sha256(source_hash.encode())
    for name, tensor in tensors.items():
        some = torch.tensor([0, tensor.shape[0] // 2, tensor.shape[0] - 1])
        digest.update(f"{name} {tensor.shape}".encode() + _bytes(tensor.rows(some)))
    return digest.hexdigest()[:16]


def _write_float32(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """A safetensors file, written part by part: a shard of a checkpoint in float32 may not fit in memory."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        first, end = end, end + tensor.n_bytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [first, end]}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % _ALIGNMENT_BYTES)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for tensor in tensors.values():
            for part in torch.atleast_1d(tensor.whole()).split(_N_ROWS_AT_ONCE):
                file.write(_bytes(part))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.float().contiguous().numpy().tobytes()
