"""Reads Gemma Scope's transcoders: one `params.npz` a layer.

Layout of google/gemma-scope-*-transcoders (Lieberum et al. 2024; read as circuit-tracer 0.5.0 does in
`transcoder/single_layer_transcoder.py`): `layer_{i}/width_{width}/average_l0_{n}/params.npz` with `W_enc (d_model,
feature)`, `W_dec (feature, d_model)`, `b_enc`, `b_dec` and `threshold (feature,)`. JumpReLU; no bias is subtracted from
the input. circuit-tracer's published configuration says what is read and written: `ln2.hook_normalized`, the stream in
front of the norm's weight, and `hook_mlp_out`, behind the post-norm.

Gemma Scope's autoencoders have the same layout and names, and nothing in their files tells them from transcoders.
"""

import re
from pathlib import Path

from tracer.files.npz import npz_tensors
from tracer.model.architectures import CheckpointFacts
from tracer.model.readers.hooks import read_point, write_point
from tracer.model.readers.set_files import LayerFiles, SetFiles, check_names, one_per_layer
from tracer.model.stored import archive_tensors

_NAMES = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")
_FOLDER = re.compile(r"layer_(\d+)")


def recognises(path: Path) -> bool:
    """Whether a folder holds `layer_{i}` folders with a `params.npz` somewhere in them."""
    return path.is_dir() and any(path.glob("layer_*/**/params.npz"))


def describe(folder: Path, facts: CheckpointFacts) -> SetFiles:
    """What a folder holds.

    Args:
        folder: the set, with one transcoder a layer.
        facts: the model's.

    Raises:
        DataError: a file is damaged.
        ModelError: a layer has no transcoder or several, or a tensor is missing or unknown.
    """
    candidates: dict[int, list[Path]] = {}
    for path in folder.glob("layer_*/**/params.npz"):
        match = _FOLDER.fullmatch(path.relative_to(folder).parts[0])
        if match:
            candidates.setdefault(int(match[1]), []).append(path)
    return SetFiles(
        format="Gemma Scope",
        layers=tuple(layer_of(path) for path in one_per_layer(candidates, facts.n_layers, folder)),
        read_point=read_point("ln2.hook_normalized", facts, str(folder)),
        write_point=write_point("hook_mlp_out", str(folder)),
        cross_layer=False,
    )


def layer_of(path: Path) -> LayerFiles:
    """The transcoder in a `params.npz`.

    Args:
        path: the file.

    Raises:
        DataError: it is absent or damaged.
        ModelError: a tensor is missing or unknown.
    """
    tensors = archive_tensors(npz_tensors(path))
    check_names(tensors, str(path), _NAMES)
    return LayerFiles(
        W_enc=tensors["W_enc"].transposed(),
        b_enc=tensors["b_enc"],
        W_dec=tensors["W_dec"].with_written(),
        b_dec=tensors["b_dec"],
        threshold=tensors["threshold"],
        where=str(path),
    )
