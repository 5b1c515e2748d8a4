"""The files of a circuit-tracer folder, checked: settings with their meaning, headers, tensors under plain names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.stored_decoder import StoredDecoder
from tracer.model.transcoders import ReadPoint, WritePoint

PER_LAYER, CROSS_LAYER = "transcoder_set", "cross_layer_transcoder"
_WRITE_POINTS: dict[str, WritePoint] = {"mlp.hook_out": "mlp_out", "hook_mlp_out": "residual"}
_REQUIRED, _ALLOWED = {"W_enc", "b_enc", "W_dec", "b_dec"}, {"threshold", "W_skip"}


def read_settings(folder: Path) -> dict[str, Any]:
    """The folder's `config.yaml`.

    Raises:
        ModelError: it is absent, unreadable, or names a kind, nonlinearity or write hook that is not known.
    """
    path = folder / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(
            str(path), found=type(error).__name__, expected="a circuit-tracer config.yaml", to_do="Check the folder."
        ) from error
    settings = settings if isinstance(settings, dict) else {}
    expected: dict[str, tuple[Any, ...]] = {
        "model_kind": (PER_LAYER, CROSS_LAYER),
        "feature_output_hook": tuple(_WRITE_POINTS),
        "activation": (None, "relu", "topk"),
        "transcoders": (None,),
    }
    for key, values in expected.items():
        if settings.get(key) not in values:
            expected_values = " or ".join(str(value) for value in values if value is not None) or "files of this folder"
            raise ModelError(
                str(path), found=f"{key} {settings.get(key)!r}", expected=expected_values, to_do="Mend it."
            )
    k = settings.get("k")
    if settings.get("activation") == "topk" and not (isinstance(k, int) and k > 0):
        raise ModelError(str(path), found=f"k {k!r}", expected="a positive number with topk", to_do="Mend it.")
    return settings


def read_point(settings: dict[str, Any], facts: CheckpointFacts, where: Path) -> ReadPoint:
    """What the set's hook name means for a model.

    `ln2.hook_normalized` is taken after weight and bias under LayerNorm, and before the weight under RMSNorm.

    Raises:
        ModelError: the name is not one that circuit-tracer's sets use, or the model has no such place.
    """
    hook = settings.get("feature_input_hook")
    centred = facts.architecture is not None and facts.architecture.centred_norm
    meanings: dict[str, ReadPoint] = {
        "mlp.hook_in": "mlp_in",
        "hook_resid_mid": "resid_mid",
        "ln2.hook_normalized": "mlp_in" if centred else "normalised",
    }
    if hook not in meanings:
        raise ModelError(
            str(where), found=f"feature_input_hook {hook!r}", expected=" or ".join(meanings), to_do="Mend it."
        )
    if meanings[hook] == "resid_mid" and facts.parallel:
        raise ModelError(
            str(where), found="feature_input_hook 'hook_resid_mid' for a model with attention and MLP in parallel",
            expected="mlp.hook_in or ln2.hook_normalized, since no stream lies between attention and MLP",
            to_do="Use transcoders that were made for this model.",
        )  # fmt: skip
    return meanings[hook]


def write_point(settings: dict[str, Any]) -> WritePoint:
    """What the set's checked hook name means."""
    return _WRITE_POINTS[settings["feature_output_hook"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTensors:
    """One layer's tensors under names that do not differ by kind; the decoder is left in its file."""

    tensors: dict[str, Tensor]
    decoder: StoredDecoder


def layer_decoder(folder: Path, layer: int, cross_layer: bool) -> StoredDecoder:
    """A layer's decoder, once the headers of its files are found in order.

    Raises:
        ModelError: a file is absent or damaged, or holds a tensor too few, too many or of another shape.
    """
    header: dict[str, tuple[int, ...]] = {}
    for name in file_names(layer, cross_layer):
        with _opened(folder / f"{name}.safetensors") as file:
            header |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no mapping
    shapes = {_plain_name(name, layer, cross_layer): shape for name, shape in header.items()}
    where = f"{folder}, layer {layer}"
    if not shapes.keys() >= _REQUIRED or shapes.keys() - _REQUIRED - _ALLOWED:
        raise ModelError(
            where, found=f"tensors {sorted(shapes)}", expected=f"{sorted(_REQUIRED)} and perhaps {sorted(_ALLOWED)}",
            to_do="Use a set in circuit-tracer's format.",
        )  # fmt: skip
    n_dims = 3 if cross_layer else 2
    if len(shapes["W_dec"]) != n_dims:
        raise ModelError(
            where, found=f"W_dec {shapes['W_dec']}", expected=f"{n_dims} dimensions", to_do="Check the files."
        )
    n_features, *written, d_model = shapes["W_dec"]
    expected: dict[str, tuple[tuple[int, ...], ...]] = {
        "W_enc": ((n_features, d_model),),
        "b_enc": ((n_features,),),
        "b_dec": ((d_model,),),
        "threshold": ((n_features,), (1,), ()),
        "W_skip": ((d_model, d_model),),
    }
    for name, allowed in expected.items():
        if name in shapes and shapes[name] not in allowed:
            raise ModelError(
                where, found=f"{name} {shapes[name]}", expected=f"{name} {allowed[0]}", to_do="Check the files."
            )
    return StoredDecoder(
        path=folder / f"{file_names(layer, cross_layer)[-1]}.safetensors",
        name=f"W_dec_{layer}" if cross_layer else "W_dec",
        shape=(n_features, written[0] if cross_layer else 1, d_model),
    )


def layer_tensors(folder: Path, layer: int, cross_layer: bool) -> LayerTensors:
    """One layer's tensors, those of the decoder unread.

    Raises:
        ModelError: as `layer_decoder`.
    """
    decoder = layer_decoder(folder, layer, cross_layer)
    with _opened(folder / f"{file_names(layer, cross_layer)[0]}.safetensors") as file:
        names = [name for name in file.keys() if name != decoder.name]  # noqa: SIM118 - no mapping
        tensors = {_plain_name(name, layer, cross_layer): file.get_tensor(name) for name in names}
    return LayerTensors(tensors=tensors, decoder=decoder)


def file_names(layer: int, cross_layer: bool) -> tuple[str, ...]:
    """Files of a layer without their ending: the encoder's, then the decoder's where it has its own."""
    return (f"W_enc_{layer}", f"W_dec_{layer}") if cross_layer else (f"layer_{layer}",)


def _plain_name(name: str, layer: int, cross_layer: bool) -> str:
    return name.removesuffix(f"_{layer}" if cross_layer else "").removeprefix("activation_function.")


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
