"""Reads and writes circuit-tracer's transcoder folders: `config.yaml` and one or two safetensors files a layer.

Formats as read from the public source of circuit-tracer 0.4.1 and 0.5.0 (`utils/hf_utils.py`, `transcoder/`):

* per-layer sets in `layer_{i}.safetensors` with `W_enc (feature, d_model)`, `W_dec (feature, d_model)`, `b_enc`,
  `b_dec`; for JumpReLU `activation_function.threshold`; for a skip connection `W_skip`, applied as `x W_skip^T`;
* cross-layer sets in `W_enc_{i}.safetensors` and `W_dec_{i}.safetensors`, whose `W_dec_{i} (feature, n_layers - i,
  d_model)` writes layer `i + w` at index `w`; for JumpReLU `threshold_{i}`. A skip connection is applied the other way
  round there, `x W_skip`. The public format has no file for it, so it is read from and written to
  `W_enc_{i}.safetensors` as `W_skip_{i}`.

`activation: topk` with `k` in `config.yaml` keeps the k largest pre-activations, negative ones too. A threshold of one
entry is that of a BatchTopK set, the same for all features.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.nonlinearity import JumpReLU, Nonlinearity, ReLU, TopK
from tracer.model.readers.circuit_tracer_files import (
    CROSS_LAYER,
    PER_LAYER,
    file_names,
    layer_tensors,
    read_point,
    read_settings,
    write_point,
)
from tracer.model.stored_decoder import StoredDecoder
from tracer.model.transcoders import LayerTranscoder, ReadPoint, TranscoderSet, WritePoint

N_HELD_BYTES = 256 * 1024**2
"""Decoders that take more than this in float32, all layers together, stay on disk unless asked otherwise."""
_READ_NAMES: dict[ReadPoint, str] = {
    "mlp_in": "mlp.hook_in", "resid_mid": "hook_resid_mid", "normalised": "ln2.hook_normalized",
}  # fmt: skip
_WRITE_NAMES: dict[WritePoint, str] = {"mlp_out": "mlp.hook_out", "residual": "hook_mlp_out"}


def read(
    folder: Path, facts: CheckpointFacts, *, device: torch.device, lazy_decoder: bool | None = None
) -> TranscoderSet:
    """Read a transcoder set for a model, as float32.

    Args:
        folder: the set.
        facts: the model's.
        device: where encoders are put, and decoders that are held.
        lazy_decoder: leave decoders on disk; when not given, if they are large.

    Raises:
        ModelError: a file is absent, damaged or of a kind that is not supported.
    """
    settings = read_settings(folder)
    cross_layer = settings["model_kind"] == CROSS_LAYER
    layers = [_layer_transcoder(folder, layer, cross_layer, settings, device) for layer in range(facts.n_layers)]
    stored = [layer.W_dec for layer in layers if isinstance(layer.W_dec, StoredDecoder)]
    if lazy_decoder is None:
        lazy_decoder = sum(decoder.n_bytes for decoder in stored) > N_HELD_BYTES
    return TranscoderSet(
        layers=tuple(layers if lazy_decoder else [_held(layer) for layer in layers]),
        read_point=read_point(settings, facts, folder / "config.yaml"),
        write_point=write_point(settings),
        cross_layer=cross_layer,
        model_name=str(settings.get("model_name", "")),
    )


def _layer_transcoder(
    folder: Path, layer: int, cross_layer: bool, settings: dict[str, Any], device: torch.device
) -> LayerTranscoder:
    found = layer_tensors(folder, layer, cross_layer)
    tensors = {name: tensor.to(device, torch.float32) for name, tensor in found.tensors.items()}
    W_skip = tensors.get("W_skip")
    return LayerTranscoder(
        W_enc=tensors["W_enc"],
        b_enc=tensors["b_enc"],
        nonlinearity=_nonlinearity(settings, tensors, folder),
        W_dec=found.decoder,
        b_dec=tensors["b_dec"],
        W_skip=W_skip.T.contiguous() if W_skip is not None and cross_layer else W_skip,
    )


def _nonlinearity(settings: dict[str, Any], tensors: dict[str, Tensor], folder: Path) -> Nonlinearity:
    n_features = len(tensors["b_enc"])
    if settings.get("activation") == "topk":
        if settings["k"] > n_features:
            raise ModelError(
                str(folder), found=f"k {settings['k']}", expected=f"at most {n_features} features", to_do="Mend it."
            )
        return TopK(k=settings["k"], rectify="no")
    if "threshold" in tensors:
        return JumpReLU(tensors["threshold"].flatten().expand(n_features))
    return ReLU()


def _held(layer: LayerTranscoder) -> LayerTranscoder:
    assert isinstance(layer.W_dec, StoredDecoder)
    return replace(layer, W_dec=layer.W_dec.whole().to(layer.W_enc))


def write(folder: Path, transcoders: TranscoderSet, *, model_name: str, dtype: torch.dtype) -> None:
    """Write a set whose decoders are held, in the same format."""
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
        assert not isinstance(transcoder.W_dec, StoredDecoder)
        encoder = {"W_enc": transcoder.W_enc, "b_enc": transcoder.b_enc, "b_dec": transcoder.b_dec}
        if isinstance(transcoder.nonlinearity, JumpReLU):
            encoder["threshold"] = transcoder.nonlinearity.threshold
        if transcoder.W_skip is not None:
            encoder["W_skip"] = transcoder.W_skip.T if transcoders.cross_layer else transcoder.W_skip
        names = file_names(layer, transcoders.cross_layer)
        encoder_file, decoder_file = folder / f"{names[0]}.safetensors", folder / f"{names[-1]}.safetensors"
        if transcoders.cross_layer:
            _save({f"W_dec_{layer}": transcoder.W_dec}, decoder_file, dtype)
            _save({f"{name}_{layer}": tensor for name, tensor in encoder.items()}, encoder_file, dtype)
        else:
            if "threshold" in encoder:
                encoder["activation_function.threshold"] = encoder.pop("threshold")
            _save(encoder | {"W_dec": transcoder.W_dec[:, 0]}, encoder_file, dtype)


def _save(tensors: dict[str, Tensor], path: Path, dtype: torch.dtype) -> None:
    save_file({name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}, path)
