"""Reads and writes circuit-tracer's transcoder folders: `config.yaml` and one or two safetensors files a layer.

Formats as read from the public source of circuit-tracer 0.4.1 and 0.5.0 (`utils/hf_utils.py`, `transcoder/`):

* per-layer sets in `layer_{i}.safetensors` with `W_enc (feature, d_model)`, `W_dec (feature, d_model)`, `b_enc`,
  `b_dec`; for JumpReLU `activation_function.threshold`; for a skip connection `W_skip`, applied as `x W_skip^T`; or in
  files that `transcoders` lists, in order of layers, also of other makers and in other repositories (`hf://`);
* cross-layer sets in `W_enc_{i}.safetensors` and `W_dec_{i}.safetensors`, whose `W_dec_{i} (feature, n_layers - i,
  d_model)` writes layer `i + w` at index `w`; for JumpReLU `threshold_{i}`. A skip connection is applied the other way
  round there, `x W_skip`. The public format has no file for it, so it is read from and written to
  `W_enc_{i}.safetensors` as `W_skip_{i}`. Gemma Scope 2's files may be listed under `transcoders` here too.

`activation: topk` with `k` in `config.yaml` keeps the k largest pre-activations, negative ones too. A threshold of one
entry is that of a BatchTopK set, the same for all features.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.nonlinearity import JumpReLU, TopK
from tracer.model.readers.hooks import read_point, write_point
from tracer.model.readers.set_files import LayerFiles, SetFiles, check_names
from tracer.model.stored import StoredTensor, safetensors_tensors
from tracer.model.transcoders import LayerTranscoder, ReadPoint, TranscoderSet, WritePoint

PER_LAYER, CROSS_LAYER = "transcoder_set", "cross_layer_transcoder"
_REQUIRED, _ALLOWED = {"W_enc", "b_enc", "W_dec", "b_dec"}, {"threshold", "W_skip"}
_READ_NAMES: dict[ReadPoint, str] = {
    "mlp_in": "mlp.hook_in", "resid_mid": "hook_resid_mid", "normalised": "ln2.hook_normalized",
}  # fmt: skip
_WRITE_NAMES: dict[WritePoint, str] = {"mlp_out": "mlp.hook_out", "residual": "hook_mlp_out"}
LayerReader = Callable[[str | Path, int], LayerFiles]


def recognises(path: Path) -> bool:
    """Whether a folder holds a `config.yaml` that names a kind of set."""
    return (path / "config.yaml").is_file()


def describe(folder: Path, facts: CheckpointFacts, read_layer: LayerReader) -> SetFiles:
    """What a folder holds.

    Args:
        folder: the set.
        facts: the model's.
        read_layer: reads the file or reference of a layer of any maker, for `transcoders` lists.

    Raises:
        ModelError: a file is absent, damaged or of a kind that is not supported.
    """
    settings, where = read_settings(folder), str(folder / "config.yaml")
    cross_layer, listed = settings["model_kind"] == CROSS_LAYER, settings.get("transcoders")
    if listed:
        layers = [read_layer(_listed(folder, entry), layer) for layer, entry in enumerate(listed)]
    else:
        layers = [_layer_files(folder, layer, cross_layer) for layer in range(facts.n_layers)]
    activation = settings.get("activation")
    if activation is not None and any(layer.threshold is not None for layer in layers):
        raise ModelError(
            where, found=f"activation {activation!r}, and thresholds in the files", expected="one nonlinearity",
            to_do="Take `activation` out where the set is JumpReLU.",
        )  # fmt: skip
    is_topk = activation == "topk"
    return SetFiles(
        format="circuit-tracer",
        layers=tuple(layers),
        read_point=read_point(settings.get("feature_input_hook"), facts, where),
        write_point=write_point(settings.get("feature_output_hook"), where),
        cross_layer=cross_layer,
        model_name=str(settings.get("model_name") or ""),
        topk=TopK(k=settings["k"], rectify="no") if is_topk else None,
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """The folder's `config.yaml`.

    Raises:
        ModelError: it is absent, unreadable, or names a kind or nonlinearity that is not known.
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
        "activation": (None, "relu", "topk"),
    }
    for key, values in expected.items():
        if settings.get(key) not in values:
            expected_values = " or ".join(str(value) for value in values if value is not None)
            raise ModelError(
                str(path), found=f"{key} {settings.get(key)!r}", expected=expected_values, to_do="Mend it."
            )
    k, listed = settings.get("k"), settings.get("transcoders")
    if settings.get("activation") == "topk" and not (type(k) is int and k > 0):
        raise ModelError(str(path), found=f"k {k!r}", expected="a positive number with topk", to_do="Mend it.")
    is_list = isinstance(listed, list) and all(isinstance(entry, str) for entry in listed)
    if listed is not None and not is_list:
        raise ModelError(
            str(path), found=f"transcoders {listed!r}"[:200], expected="a list of files, one a layer",
            to_do="Mend it.",
        )  # fmt: skip
    return settings


def listed_elsewhere(folder: Path) -> list[str]:
    """References to files in other repositories that a set's `config.yaml` lists; none where it has no such file.

    Args:
        folder: the set, or a folder with its `config.yaml` alone.

    Raises:
        ModelError: as `read_settings`.
    """
    listed = read_settings(folder).get("transcoders") if recognises(folder) else None
    return [entry for entry in listed or () if entry.startswith("hf://")]


def _listed(folder: Path, entry: str) -> str | Path:
    """A file of the folder, or a reference to another repository."""
    if entry.startswith("hf://"):
        return entry
    path = folder / entry
    # Files of a download cache are links out of the folder, so the entry itself is judged.
    if ".." in Path(entry).parts or Path(entry).is_absolute():
        raise ModelError(
            str(folder / "config.yaml"), found=f"transcoders {entry!r}", expected="a path inside the folder, or hf://",
            to_do="Mend it.",
        )  # fmt: skip
    return path


def layer_of(tensors: dict[str, StoredTensor], where: str) -> LayerFiles:
    """A layer of a per-layer set.

    Args:
        tensors: those of its file.
        where: the file.

    Raises:
        ModelError: a tensor is missing or unknown.
    """
    plain = {name.removeprefix("activation_function."): tensor for name, tensor in tensors.items()}
    if len(plain) != len(tensors):
        raise ModelError(
            where, found="threshold and activation_function.threshold", expected="one of them", to_do="Check the file."
        )
    check_names(plain, where, _REQUIRED, _ALLOWED)
    return LayerFiles(**plain | {"W_dec": plain["W_dec"].with_written()}, where=where)


def _layer_files(folder: Path, layer: int, cross_layer: bool) -> LayerFiles:
    names = file_names(layer, cross_layer)
    tensors: dict[str, StoredTensor] = {}
    for name in names:
        tensors |= safetensors_tensors(folder / f"{name}.safetensors")
    if not cross_layer:
        return layer_of(tensors, str(folder / f"{names[0]}.safetensors"))
    plain = {name.removesuffix(f"_{layer}"): tensor for name, tensor in tensors.items()}
    where = str(folder / f"{names[0]}.safetensors")
    check_names(plain, where, _REQUIRED, _ALLOWED)
    if "W_skip" in plain:
        plain["W_skip"] = plain["W_skip"].transposed()
    return LayerFiles(**plain, where=where)


def file_names(layer: int, cross_layer: bool) -> tuple[str, ...]:
    """Files of a layer without their ending: the encoder's, then the decoder's where it has its own."""
    return (f"W_enc_{layer}", f"W_dec_{layer}") if cross_layer else (f"layer_{layer}",)


def write(folder: Path, transcoders: TranscoderSet, *, model_name: str, dtype: torch.dtype) -> None:
    """Write a set in the same format; of matrices on disk one layer is held at a time.

    Args:
        folder: made where absent.
        transcoders: the set.
        model_name: the checkpoint that it was made for.
        dtype: of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "model_name": model_name,
        "model_kind": CROSS_LAYER if transcoders.cross_layer else PER_LAYER,
        "feature_input_hook": _READ_NAMES[transcoders.read_point],
        "feature_output_hook": _WRITE_NAMES[transcoders.write_point],
    }
    nonlinearity = transcoders.layers[0].nonlinearity
    if isinstance(nonlinearity, TopK):
        assert nonlinearity.rectify == "no", "the format knows one kind of TopK"
        settings |= {"activation": "topk", "k": nonlinearity.k}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    for layer, transcoder in enumerate(transcoders.layers):
        _write_layer(folder, layer, transcoder, cross_layer=transcoders.cross_layer, dtype=dtype)


def _write_layer(
    folder: Path, layer: int, transcoder: LayerTranscoder, *, cross_layer: bool, dtype: torch.dtype
) -> None:
    W_enc, W_dec = (_whole(matrix) for matrix in (transcoder.W_enc, transcoder.W_dec))
    encoder = {"W_enc": W_enc, "b_enc": transcoder.b_enc, "b_dec": transcoder.b_dec}
    if isinstance(transcoder.nonlinearity, JumpReLU):
        encoder["threshold"] = transcoder.nonlinearity.threshold
    if transcoder.W_skip is not None:
        encoder["W_skip"] = transcoder.W_skip.T if cross_layer else transcoder.W_skip
    names = file_names(layer, cross_layer)
    encoder_file, decoder_file = folder / f"{names[0]}.safetensors", folder / f"{names[-1]}.safetensors"
    if cross_layer:
        _save({f"W_dec_{layer}": W_dec}, decoder_file, dtype)
        _save({f"{name}_{layer}": tensor for name, tensor in encoder.items()}, encoder_file, dtype)
    else:
        if "threshold" in encoder:
            encoder["activation_function.threshold"] = encoder.pop("threshold")
        _save(encoder | {"W_dec": W_dec[:, 0]}, encoder_file, dtype)


def _whole(matrix: Tensor | StoredTensor) -> Tensor:
    return matrix if isinstance(matrix, Tensor) else matrix.whole()


def _save(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}, path)
