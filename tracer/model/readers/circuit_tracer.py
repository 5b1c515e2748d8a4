"""Reads and writes circuit-tracer's transcoder folders: `config.yaml` and one or two safetensors files a layer.

Formats as read from the public source of circuit-tracer 0.4.1 (`utils/hf_utils.py`, `transcoder/`): per-layer sets in
`layer_{i}.safetensors` with `W_enc (feature, d_model)`, `W_dec (feature, d_model)`, `b_enc`, `b_dec` and, for JumpReLU,
`activation_function.threshold`; cross-layer sets in `W_enc_{i}.safetensors` and `W_dec_{i}.safetensors`, whose
`W_dec_{i} (feature, n_layers - i, d_model)` writes layer `i + w` at index `w`.
"""

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.transcoders import LayerTranscoder, ReadPoint, TranscoderSet

PER_LAYER, CROSS_LAYER = "transcoder_set", "cross_layer_transcoder"
_WRITE_HOOKS = ("mlp.hook_out", "hook_mlp_out")


def read_point(hook: str, centred_norm: bool, where: Path) -> ReadPoint:
    """What a hook name of circuit-tracer means.

    `ln2.hook_normalized` is taken after weight and bias under LayerNorm, and before the weight under RMSNorm.

    Raises:
        ModelError: the name is not one that circuit-tracer's sets use.
    """
    meanings: dict[str, ReadPoint] = {
        "mlp.hook_in": "mlp_in",
        "hook_resid_mid": "resid_mid",
        "ln2.hook_normalized": "mlp_in" if centred_norm else "normalised",
    }
    if hook not in meanings:
        raise ModelError(
            str(where), found=f"feature_input_hook {hook!r}", expected=" or ".join(meanings), to_do="Mend it."
        )
    return meanings[hook]


def read_settings(folder: Path) -> dict[str, Any]:
    """The folder's `config.yaml`.

    Raises:
        ModelError: it is absent, unreadable, or names a kind or a write hook that is not known.
    """
    path = folder / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(
            str(path), found=type(error).__name__, expected="a circuit-tracer config.yaml", to_do="Check the folder."
        ) from error
    settings = settings if isinstance(settings, dict) else {}
    expected = {"model_kind": (PER_LAYER, CROSS_LAYER), "feature_output_hook": _WRITE_HOOKS}
    for key, values in expected.items():
        if settings.get(key) not in values:
            raise ModelError(
                str(path), found=f"{key} {settings.get(key)!r}", expected=" or ".join(values), to_do="Mend it."
            )
    for key in ("transcoders", "activation"):
        if settings.get(key) not in (None, "relu"):
            raise ModelError(
                str(path),
                found=f"{key}: {settings[key]!r}",
                expected="files in this folder, ReLU or JumpReLU",
                to_do="Use such a set.",
            )
    return settings


def layer_shapes(folder: Path, cross_layer: bool, n_layers: int) -> list[tuple[int, int, int]]:
    """(features, written layers, d_model) of each layer, from file headers alone.

    Raises:
        ModelError: a layer's file is absent, damaged, has a tensor too few or too many, or matrices of odd shape.
    """
    shapes = []
    for layer in range(n_layers):
        header: dict[str, tuple[int, ...]] = {}
        for name in _file_names(layer, cross_layer):
            with _opened(folder / f"{name}.safetensors") as file:
                header |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
        header = _plain_names(header, layer, cross_layer)
        _check_names(header, folder, layer)
        shape, n_dims = header["W_dec"], 3 if cross_layer else 2
        if len(shape) != n_dims:
            expected = f"{n_dims} dimensions"
            raise ModelError(
                f"{folder}, layer {layer}", found=f"W_dec {shape}", expected=expected, to_do="Check the files."
            )
        shapes.append((shape[0], shape[1] if cross_layer else 1, shape[-1]))
    return shapes


def read(folder: Path, *, n_layers: int, centred_norm: bool, device: torch.device) -> TranscoderSet:
    """Read a transcoder set for a model of `n_layers`, as float32.

    Raises:
        ModelError: a file is absent, damaged or of a kind that is not supported.
    """
    settings = read_settings(folder)
    cross_layer = settings["model_kind"] == CROSS_LAYER
    layers = []
    for layer in range(n_layers):
        tensors = _layer_tensors(folder, layer, cross_layer)
        layers.append(_layer_transcoder(tensors, layer, cross_layer, device, folder))
    return TranscoderSet(
        layers=tuple(layers),
        read_point=read_point(settings.get("feature_input_hook", ""), centred_norm, folder / "config.yaml"),
        cross_layer=cross_layer,
        model_name=str(settings.get("model_name", "")),
    )


def write(folder: Path, transcoders: TranscoderSet, *, model_name: str, dtype: torch.dtype) -> None:
    """Write a set that reads `mlp.hook_in` and writes `mlp.hook_out`, in the same format."""
    assert transcoders.read_point == "mlp_in"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "model_name": model_name,
        "model_kind": CROSS_LAYER if transcoders.cross_layer else PER_LAYER,
        "feature_input_hook": "mlp.hook_in",
        "feature_output_hook": "mlp.hook_out",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    for layer, transcoder in enumerate(transcoders.layers):
        encoder = {"W_enc": transcoder.W_enc, "b_enc": transcoder.b_enc, "b_dec": transcoder.b_dec}
        decoder = transcoder.W_dec
        threshold = transcoder.threshold
        if transcoders.cross_layer:
            encoder = {f"{name}_{layer}": tensor for name, tensor in encoder.items()}
            encoder |= {} if threshold is None else {f"threshold_{layer}": threshold}
            _save({f"W_dec_{layer}": decoder}, folder / f"W_dec_{layer}.safetensors", dtype)
            _save(encoder, folder / f"W_enc_{layer}.safetensors", dtype)
        else:
            encoder |= {} if threshold is None else {"activation_function.threshold": threshold}
            _save(encoder | {"W_dec": decoder[:, 0]}, folder / f"layer_{layer}.safetensors", dtype)


def _save(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}, path)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else "not a safetensors file"
        raise ModelError(
            str(path),
            found=found,
            expected="the transcoder of this layer",
            to_do="Check the set: a layer is missing or damaged.",
        ) from error


def _file_names(layer: int, cross_layer: bool) -> tuple[str, ...]:
    return (f"W_enc_{layer}", f"W_dec_{layer}") if cross_layer else (f"layer_{layer}",)


def _plain_names(tensors: dict[str, Any], layer: int, cross_layer: bool) -> dict[str, Any]:
    suffix = f"_{layer}" if cross_layer else ""
    return {name.removesuffix(suffix).removeprefix("activation_function."): tensor for name, tensor in tensors.items()}


def _check_names(tensors: dict[str, Any], folder: Path, layer: int) -> None:
    required, allowed = {"W_enc", "b_enc", "W_dec", "b_dec"}, {"threshold"}
    if not required <= tensors.keys() or tensors.keys() - required - allowed:
        raise ModelError(
            f"{folder}, layer {layer}",
            found=f"tensors {sorted(tensors)}",
            expected=f"{sorted(required)} and perhaps {sorted(allowed)}",
            to_do="Use a set without skip connection in circuit-tracer's format.",
        )


def _layer_tensors(folder: Path, layer: int, cross_layer: bool) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name in _file_names(layer, cross_layer):
        with _opened(folder / f"{name}.safetensors") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    return _plain_names(tensors, layer, cross_layer)


def _layer_transcoder(
    tensors: dict[str, Tensor], layer: int, cross_layer: bool, device: torch.device, folder: Path
) -> LayerTranscoder:
    _check_names(tensors, folder, layer)
    moved = {name: tensor.to(device, torch.float32) for name, tensor in tensors.items()}
    decoder = moved["W_dec"] if cross_layer else moved["W_dec"][:, None]
    n_features, d_model = decoder.shape[0], decoder.shape[-1]
    shapes = {name: tuple(moved[name].shape) for name in ("W_enc", "b_enc", "b_dec")}
    expected = {"W_enc": (n_features, d_model), "b_enc": (n_features,), "b_dec": (d_model,)}
    if shapes != expected:
        raise ModelError(
            f"{folder}, layer {layer}", found=f"{shapes}", expected=f"{expected}", to_do="Check the files."
        )
    return LayerTranscoder(
        W_enc=moved["W_enc"],
        b_enc=moved["b_enc"],
        threshold=moved.get("threshold"),
        W_dec=decoder,
        b_dec=moved["b_dec"],
    )
