"""Reads CLT-Forge's checkpoints: `clt_cfg.json` and the state of its module in safetensors.

Layout as in the public code LLM-Interp/CLT-Forge (`src/clt_forge/clt.py`, `config/clt_config.py`): one file
`clt_weights.safetensors`, or with `feature_sharding` files `rank{r}_clt_weights.safetensors`, each with a part of the
features. Tensors are `W_enc (layer, d_model, feature)`, `b_enc (layer, feature)` and

* with `cross_layer_decoders` `W_dec (pair, feature, d_model)` and `b_dec (pair, d_model)` for the pairs of a source
  layer and a written layer, itself or later, ordered by source, then by written layer; the biases of a written layer
  add up;
* else `W_dec (layer, feature, d_model)` and `b_dec (layer, d_model)`.

`activation_fn: jumprelu`, also where it is not stated, has the threshold `exp(log_threshold)`; `topk` keeps the `k`
largest after ReLU; `groupmax` and low-rank decoders (`decoder_type: lora`) are not supported.

Inputs are multiplied by `estimated_norm_scaling_factor_in (layer,)` in training, and outputs by `..._out`; both are
folded into encoder, decoder and its bias, as `attribution/loading.py` of the same code does. Hooks are the same for
all: `ln2.hook_normalized` and `hook_mlp_out` of a HookedTransformer with raw weights (`training/activations_store.py`).
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.nonlinearity import TopK
from tracer.model.readers.hooks import read_point, write_point
from tracer.model.readers.set_files import LayerFiles, SetFiles, check_names, settings_of
from tracer.model.stored import StoredTensor, safetensors_tensors
from tracer.model.stored_folds import in_memory, joined, scaled

_SETTINGS, _FILE = "clt_cfg.json", "clt_weights.safetensors"
_SCALE_IN, _SCALE_OUT = "estimated_norm_scaling_factor_in", "estimated_norm_scaling_factor_out"
_NAMES = ("W_enc", "b_enc", "W_dec", "b_dec", "log_threshold", _SCALE_IN, _SCALE_OUT)
_OF_TRAINING = ("feature_count", "layer_mask")


def recognises(path: Path) -> bool:
    """Whether a folder holds `clt_cfg.json`."""
    return (path / _SETTINGS).is_file()


def describe(folder: Path, facts: CheckpointFacts) -> SetFiles:
    """What a folder holds.

    Args:
        folder: the checkpoint.
        facts: the model's.

    Raises:
        DataError: `clt_cfg.json` is no JSON.
        ModelError: a file is absent or damaged, a tensor is missing or unknown or of another shape than the settings
            say, or the nonlinearity or the kind of decoder is not supported.
    """
    path = folder / _SETTINGS
    settings = settings_of(path)
    topk, n_layers = _checked(settings, path)
    cross_layer = bool(settings.get("cross_layer_decoders"))
    shards = [_shard(file, n_layers, cross_layer) for file in _files(folder, settings)]
    n_features = sum(shard["b_enc"].shape[1] for shard in shards)
    if n_features != settings.get("d_latent"):
        raise ModelError(
            str(path), found=f"d_latent {settings.get('d_latent')}", expected=f"the {n_features} features of the files",
            to_do="Check the set: the file of a rank may be missing.",
        )  # fmt: skip
    return SetFiles(
        format="CLT-Forge",
        layers=tuple(_layer(shards, layer, cross_layer, has_threshold=topk is None) for layer in range(n_layers)),
        read_point=read_point("ln2.hook_normalized", facts, str(path)),
        write_point=write_point("hook_mlp_out", str(path)),
        cross_layer=cross_layer,
        model_name=str(settings.get("model_name") or ""),
        topk=topk,
    )


def _checked(settings: dict[str, Any], path: Path) -> tuple[TopK | None, int]:
    """The nonlinearity where it is TopK, and the number of layers."""
    activation, k, n_layers = settings.get("activation_fn", "jumprelu"), settings.get("k"), settings.get("n_layers")
    decoder_type = settings.get("decoder_type", "full")
    is_known = activation == "jumprelu" or (activation == "topk" and type(k) is int and k > 0)
    if not is_known or decoder_type != "full" or type(n_layers) is not int:
        raise ModelError(
            str(path),
            found=f"activation_fn {activation!r}, k {k!r}, decoder_type {decoder_type!r}, n_layers {n_layers!r}",
            expected="jumprelu, or topk with a positive k; full decoders; a number of layers",
            to_do="This kind of set is not supported: use another.",
        )  # fmt: skip
    return TopK(k=k, rectify="before") if activation == "topk" and k else None, n_layers


def _files(folder: Path, settings: dict[str, Any]) -> list[Path]:
    if not settings.get("feature_sharding"):
        return [folder / _FILE]
    n_ranks = len(list(folder.glob(f"rank*_{_FILE}")))
    return [folder / f"rank{rank}_{_FILE}" for rank in range(max(1, n_ranks))]


def _shard(path: Path, n_layers: int, cross_layer: bool) -> dict[str, StoredTensor]:
    """The tensors of a file, once each has the axes that the settings say."""
    tensors = safetensors_tensors(path, ignored=_OF_TRAINING)
    check_names(tensors, str(path), _NAMES)
    n_decoders = n_layers * (n_layers + 1) // 2 if cross_layer else n_layers
    for name, tensor in tensors.items():
        n_dims = {"W_enc": 3, "W_dec": 3, _SCALE_IN: 1, _SCALE_OUT: 1}.get(name, 2)
        n_first = n_decoders if name in ("W_dec", "b_dec") else n_layers
        if len(tensor.shape) != n_dims or tensor.shape[0] != n_first:
            raise ModelError(
                str(path), found=f"{name} {tensor.shape}", expected=f"{n_dims} axes, the first of length {n_first}",
                to_do=f"Check the file against n_layers and cross_layer_decoders of {_SETTINGS}.",
            )  # fmt: skip
    return tensors


def _layer(shards: list[dict[str, StoredTensor]], layer: int, cross_layer: bool, *, has_threshold: bool) -> LayerFiles:
    parts = [_features(shard, layer, cross_layer) for shard in shards]
    features = {name: joined([part[name] for part in parts]) for name in parts[0]}
    if not has_threshold:
        del features["threshold"]
    return LayerFiles(**features, b_dec=_b_dec(shards[0], layer, cross_layer), where=str(shards[0]["W_enc"].path))


def _features(shard: dict[str, StoredTensor], layer: int, cross_layer: bool) -> dict[str, StoredTensor]:
    """What a file holds of the features that read at a layer, each by its name in `LayerFiles`."""
    n_layers = shard["W_enc"].shape[0]
    if cross_layer:
        first = layer * n_layers - layer * (layer - 1) // 2
        W_dec = shard["W_dec"].transposed_written().from_written(first, n_layers - layer)
    else:
        W_dec = shard["W_dec"].at(layer).with_written()
    log_threshold = shard["log_threshold"]
    return {
        "W_enc": scaled(shard["W_enc"].at(layer).transposed(), shard[_SCALE_IN].whole()[layer]),
        "b_enc": shard["b_enc"].at(layer),
        "W_dec": scaled(W_dec, 1 / _scale_out(shard)[layer : layer + W_dec.shape[1]]),
        "threshold": in_memory(log_threshold.at(layer).whole().float().exp(), log_threshold.path, "log_threshold"),
    }


def _b_dec(shard: dict[str, StoredTensor], layer: int, cross_layer: bool) -> StoredTensor:
    b_dec, n_layers = shard["b_dec"].whole().float(), shard["W_enc"].shape[0]
    written = torch.triu_indices(n_layers, n_layers)[1] if cross_layer else torch.arange(n_layers)
    return in_memory(b_dec[written == layer].sum(0) / _scale_out(shard)[layer], shard["b_dec"].path, "b_dec")


def _scale_out(shard: dict[str, StoredTensor]) -> Tensor:
    return shard[_SCALE_OUT].whole().float()
