"""Reads Gemma Scope 2's transcoders: safetensors with a `config.json`, per layer or across layers.

Layouts of google/gemma-scope-2-* (tensors as circuit-tracer 0.5.0 reads them in `transcoder/`, `config.json` as
published):

* per-layer: `layer_{i}_width_{width}_l0_{size}[_affine]/params.safetensors` with `w_enc (d_model, feature)`,
  `w_dec (feature, d_model)`, `b_enc`, `b_dec`, `threshold (feature,)`;
* cross-layer: `params_layer_{i}.safetensors`, the same but for `w_dec (feature, n_layers, d_model)`, of which layers
  `i` and above are meant; or all layers behind each other along a new first axis, in one `params.safetensors`.

JumpReLU. The optional `affine_skip_connection (d_model, d_model)` is applied as `x @ affine_skip_connection`, so it is
turned here. `hf_hook_point_in` and `hf_hook_point_out` name modules of the Gemma checkpoint: what is read is the output
of the norm in front of the MLP, its weight included, and what is written the output of the norm behind it.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.readers.set_files import LayerFiles, SetFiles, check_names, one_per_layer, settings_of
from tracer.model.stored import StoredTensor, safetensors_tensors

NAMES = frozenset({"w_enc", "w_dec", "b_enc", "b_dec", "threshold"})
_SKIP = "affine_skip_connection"
_FOLDER, _CROSS_LAYER_FILE = re.compile(r"layer_(\d+)_.*"), re.compile(r"params_layer_(\d+)\.safetensors")
_FILE = "params.safetensors"


def recognises(path: Path) -> bool:
    """Whether a folder holds per-layer folders, or the files of a cross-layer set."""
    if not path.is_dir():
        return False
    is_cross_layer = (path / "config.json").is_file() and bool(_cross_layer_files(path) or (path / _FILE).is_file())
    return is_cross_layer or bool(_layer_folders(path))


def describe(folder: Path, facts: CheckpointFacts) -> SetFiles:
    """What a folder holds.

    Args:
        folder: the set, with one transcoder a layer.
        facts: the model's.

    Raises:
        DataError: a `config.json` is absent or no JSON.
        ModelError: a layer has no transcoder or several, reads or writes elsewhere, or a tensor is missing or unknown.
    """
    folders = _layer_folders(folder)
    if folders:
        chosen = one_per_layer(folders, facts.n_layers, folder)
        settings = [_settings(found, "transcoder", str(layer)) for layer, found in enumerate(chosen)]
        layers = [
            layer_of(safetensors_tensors(found / _FILE), str(found / _FILE), layer)
            for layer, found in enumerate(chosen)
        ]
    else:
        shared = _settings(folder, "clt", "{all}")
        layers = _cross_layers(folder, facts.n_layers)
        settings = [shared] * len(layers)
    for found, stated in zip(layers, settings, strict=True):
        if bool(stated.get("affine_connection")) != (found.W_skip is not None):
            raise ModelError(
                found.where, found=f"affine_connection {stated.get('affine_connection')} in config.json",
                expected=f"the same as in the file, which has {'a' if found.W_skip else 'no'} skip connection",
                to_do="Check the set: file and config.json are of different transcoders.",
            )  # fmt: skip
    return SetFiles(
        format="Gemma Scope 2",
        layers=tuple(layers),
        read_point="mlp_in",
        write_point="residual",
        cross_layer=not folders,
        model_name=str(settings[0].get("model_name") or "") if settings else "",
    )


def layer_of(tensors: Mapping[str, StoredTensor], where: str, layer: int) -> LayerFiles:
    """The features that read at one layer, of either kind.

    Args:
        tensors: those of its file.
        where: the file.
        layer: the layer.

    Raises:
        ModelError: a tensor is missing or unknown.
    """
    check_names(tensors, where, NAMES, {_SKIP})
    W_dec, skip = tensors["w_dec"], tensors.get(_SKIP)
    return LayerFiles(
        W_enc=tensors["w_enc"].transposed(),
        b_enc=tensors["b_enc"],
        W_dec=W_dec.from_written(layer) if len(W_dec.shape) == 3 else W_dec.with_written(),
        b_dec=tensors["b_dec"],
        threshold=tensors["threshold"],
        W_skip=None if skip is None else skip.transposed(),
        where=where,
    )


def _cross_layers(folder: Path, n_layers: int) -> list[LayerFiles]:
    if not (folder / _FILE).is_file():
        paths = one_per_layer(_cross_layer_files(folder), n_layers, folder)
        return [layer_of(safetensors_tensors(path), str(path), layer) for layer, path in enumerate(paths)]
    tensors, where = safetensors_tensors(folder / _FILE), str(folder / _FILE)
    return [
        layer_of({name: tensor.at(layer) for name, tensor in tensors.items()}, where, layer)
        for layer in range(max((tensor.shape[0] for tensor in tensors.values() if tensor.shape), default=0))
    ]


def _settings(folder: Path, kind: str, layer: str) -> dict[str, Any]:
    settings = settings_of(folder / "config.json")
    expected = {
        "type": kind,
        "architecture": "jump_relu",
        "hf_hook_point_in": f"model.layers.{layer}.pre_feedforward_layernorm.output",
        "hf_hook_point_out": f"model.layers.{layer}.post_feedforward_layernorm.output",
    }
    for name, value in expected.items():
        if settings.get(name) != value:
            raise ModelError(
                str(folder / "config.json"), found=f"{name} {settings.get(name)!r}", expected=repr(value),
                to_do="Use transcoders of MLPs: a folder of layer_{i}_... folders, or of a cross-layer set.",
            )  # fmt: skip
    return settings


def _layer_folders(folder: Path) -> dict[int, list[Path]]:
    return _by_layer([path.parent for path in folder.glob(f"layer_*/{_FILE}")], _FOLDER)


def _cross_layer_files(folder: Path) -> dict[int, list[Path]]:
    return _by_layer(list(folder.glob("params_layer_*.safetensors")), _CROSS_LAYER_FILE)


def _by_layer(paths: list[Path], pattern: re.Pattern[str]) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    for path in paths:
        match = pattern.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
    return found
