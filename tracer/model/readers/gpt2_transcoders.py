"""Reads the GPT-2 transcoders of Dunefsky, Chlenski and Nanda (2024): one torch archive a layer.

Layout of pchlenski/gpt2-transcoders, written by the public code jacobdunefsky/transcoder_circuits
(`sae_training/sparse_autoencoder.py`): `final_sparse_autoencoder_{model}_blocks.{i}.ln2.hook_normalized_{n}.pt` is
`{"cfg": an object of sae_training, "state_dict": ...}` with `W_enc (d_model, feature)`, `b_enc`, `W_dec (feature,
d_model)`, `b_dec`, which is subtracted from the input, and `b_dec_out`, which is added to the output. ReLU. The archive
is taken apart without executing anything of it.

They were trained on HookedTransformer with its usual processing, which moves weight and bias of the norm into the MLP
and takes the mean over `d_model` out of all that is written to the stream. The first makes `ln2.hook_normalized` the
normalised stream itself, which is the same in the raw model. The second leaves of an MLP output all but its mean: the
mean of the raw one, which every later norm takes out anyway, goes to the error.
"""

import re
from pathlib import Path
from typing import Any

from tracer.errors import ModelError
from tracer.files.pickle_machine import Inert
from tracer.files.torch_archive import read_archive
from tracer.model.architectures import CheckpointFacts
from tracer.model.readers.hooks import read_point, write_point
from tracer.model.readers.set_files import LayerFiles, SetFiles, check_names, one_per_layer
from tracer.model.stored import archive_tensors

_FILE = re.compile(r"final_sparse_autoencoder_.+_blocks\.(\d+)\..+_\d+\.pt")
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "b_dec_out")


def recognises(path: Path) -> bool:
    """Whether a folder holds such archives."""
    return path.is_dir() and bool(_files(path))


def describe(folder: Path, facts: CheckpointFacts) -> SetFiles:
    """What a folder holds.

    Args:
        folder: the set.
        facts: the model's.

    Raises:
        DataError: an archive is damaged, or holds objects of other packages than `sae_training`.
        ModelError: a layer has no transcoder or several, it is an autoencoder, reads or writes elsewhere, or a tensor
            is missing or unknown.
    """
    paths = one_per_layer(_files(folder), facts.n_layers, folder)
    archives = [_archive(path) for path in paths]
    hooks = {
        (
            read_point(_of_layer(settings, "hook_point", layer, path), facts, str(path), fold_ln=True),
            write_point(_of_layer(settings, "out_hook_point", layer, path), str(path)),
        )
        for layer, (path, (settings, _)) in enumerate(zip(paths, archives, strict=True))
    }
    if len(hooks) > 1:
        raise ModelError(
            str(folder), found="layers that read or write at different places", expected="one place in all layers",
            to_do="Use files of one set.",
        )  # fmt: skip
    ((read, write),) = hooks
    return SetFiles(
        format="GPT-2 transcoders",
        layers=tuple(found for _, found in archives),
        read_point=read,
        write_point=write,
        cross_layer=False,
        model_name=str(archives[0][0].get("model_name") or ""),
        # HookedTransformer centres models with LayerNorm alone.
        centred_stream=facts.architecture is not None and facts.architecture.centred_norm,
    )


def _files(folder: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for path in folder.glob("final_sparse_autoencoder_*.pt"):
        match = _FILE.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return found


def _archive(path: Path) -> tuple[dict[str, Any], LayerFiles]:
    """Settings and transcoder of one file."""
    found = read_archive(path, packages=("sae_training",), lazy=True)
    settings, tensors = (found.get("cfg"), found.get("state_dict")) if isinstance(found, dict) else (None, None)
    settings = settings.state if isinstance(settings, Inert) else settings
    if not isinstance(settings, dict) or not isinstance(tensors, dict) or not settings.get("is_transcoder"):
        raise ModelError(
            str(path), found="no transcoder", expected="cfg with is_transcoder, and state_dict",
            to_do="Use transcoders: autoencoders cannot replace an MLP.",
        )  # fmt: skip
    check_names(tensors, str(path), _NAMES)
    stored = archive_tensors(tensors)
    return settings, LayerFiles(
        W_enc=stored["W_enc"].transposed(),
        b_enc=stored["b_enc"],
        W_dec=stored["W_dec"].with_written(),
        b_dec=stored["b_dec_out"],
        b_in=stored["b_dec"],
        where=str(path),
    )


def _of_layer(settings: dict[str, Any], name: str, layer: int, path: Path) -> str:
    """A hook's name, which must be of the layer that the file's name says."""
    hook = str(settings.get(name))
    if not hook.startswith(f"blocks.{layer}."):
        raise ModelError(
            str(path), found=f"{name} {hook}", expected=f"a hook of blocks.{layer}, as the file's name says",
            to_do="Check the file's name.",
        )  # fmt: skip
    return hook
