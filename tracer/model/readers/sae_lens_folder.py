"""A folder that sae-lens saved: what its `cfg.json` says, and where the matrices of `sae_weights.safetensors` lie.

As read from the public source of sae-lens 6.54 (`saes/`, `loading/pretrained_sae_loaders.py`, `load_model.py`):

* `W_enc (read, feature)`, `b_enc`, `W_dec (feature, written)`, `b_dec`; for JumpReLU `threshold`, in older files
  `log_threshold`; for a skip connection `W_skip (written, read)`, applied as `x W_skip^T`;
* an SAE encodes `x - b_dec` where `apply_b_dec_to_input`, which is so where the file is silent; a transcoder `x`;
* ReLU is applied besides a threshold, so one below zero is read as zero; TopK applies it to the chosen;
* `rescale_acts_by_decoder_norm` multiplies pre-activations by the lengths of the decoder's rows, and divides
  activations by them before decoding: folded into encoder and decoder;
* `normalize_activations: expected_average_only_in` multiplies what is read by a constant and divides what is written.
  A finished SAE has it folded in; a training checkpoint has the constant in `activation_scaler.json`, and it is folded
  here as `SAE.fold_activation_norm_scaling_factor` does. Without the constant, and with any other normalisation, the
  folder is refused;
* up to version 5 all settings are side by side, since then those of the language model are under `metadata`.

Hook names are those of a HookedTransformer, which sae-lens loads by `from_pretrained_no_processing` with
`model_from_pretrained_kwargs`: the weights are raw where the file is silent. For old SAEs that were trained on centred
weights and do not say so, sae-lens' list of releases does.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.nonlinearity import TopK
from tracer.model.readers.set_files import LayerFiles, check_shapes
from tracer.model.stored import StoredTensor, safetensors_tensors
from tracer.model.stored_folds import in_memory, scaled

CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
SAES: dict[str, set[str]] = {"standard": set(), "topk": set(), "jumprelu": {"threshold"}}
TRANSCODERS: dict[str, set[str]] = {
    "transcoder": set(),
    "skip_transcoder": {"W_skip"},
    "jumprelu_transcoder": {"threshold"},
    "jumprelu_skip_transcoder": {"threshold", "W_skip"},
}
"""Architectures, and the tensors that each has besides encoder, decoder and their biases."""
_TENSORS = {"W_enc", "b_enc", "W_dec", "b_dec"}
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_BLOCK_HOOK = re.compile(r"blocks\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeLensFolder:
    """An SAE or transcoder as its folder describes it."""

    where: str
    """Its `cfg.json`, for messages."""
    architecture: str
    layer: int
    hook: str
    """What it reads, as the hook's name inside the block."""
    written_layer: int
    written_hook: str
    model_name: str
    processing: frozenset[str]
    """How the language model's weights were processed: `fold_ln`, `center_writing_weights`, ..."""
    topk: TopK | None
    files: LayerFiles

    @property
    def is_transcoder(self) -> bool:
        """Whether it reads one place and writes another."""
        return self.architecture in TRANSCODERS


def is_folder(path: Path) -> bool:
    """Whether sae-lens saved something in this folder."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def read_folder(folder: Path) -> SaeLensFolder:
    """What a folder holds; large matrices stay on disk, unless something is to be folded into them.

    Args:
        folder: the one with `cfg.json`.

    Raises:
        ModelError: a file is absent or damaged, or says what cannot be represented exactly.
    """
    path = folder / CONFIG
    settings = _settings(path)
    architecture, topk = _architecture(settings, path)
    layer, hook = _place(settings.get("hook_name"), settings, path)
    written_layer, written_hook = _place(settings.get("hook_name_out") or settings.get("hook_name"), settings, path)
    kwargs = settings.get("model_from_pretrained_kwargs") or {}
    if not isinstance(kwargs, dict):
        raise _refused(path, f"model_from_pretrained_kwargs {kwargs!r}", "settings by name")
    files = _files(folder, architecture, settings)
    check_shapes(files, files.where, topk)
    if topk is not None and settings.get("rescale_acts_by_decoder_norm"):
        files = _with_decoder_norms(files)
    return SaeLensFolder(
        where=str(path),
        architecture=architecture,
        layer=layer,
        hook=hook,
        written_layer=written_layer,
        written_hook=written_hook,
        model_name=str(settings.get("model_name") or ""),
        processing=frozenset(name for name, value in kwargs.items() if value is True),
        topk=topk,
        files=files,
    )


def _settings(path: Path) -> dict[str, Any]:
    """All settings side by side, under the names of today."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(path, type(error).__name__, "what sae-lens saves beside the weights") from error
    if not isinstance(found, dict):
        raise _refused(path, type(found).__name__, "settings by name")
    metadata = found.get("metadata")
    merged = found | (metadata if isinstance(metadata, dict) else {})
    return {new: merged[old] for old, new in _RENAMED.items() if old in merged} | merged


def _architecture(settings: dict[str, Any], path: Path) -> tuple[str, TopK | None]:
    architecture, activation = settings.get("architecture") or "standard", settings.get("activation_fn") or "relu"
    k = settings.get("k")
    if architecture == "standard" and activation == "topk":
        kwargs = settings.get("activation_fn_kwargs")
        architecture, k = "topk", kwargs.get("k") if isinstance(kwargs, dict) else None
    elif activation not in ("relu", "topk"):
        raise _refused(path, f"activation_fn {activation!r}", "relu or topk")
    if not isinstance(architecture, str) or architecture not in SAES | TRANSCODERS:
        raise _refused(path, f"architecture {architecture!r}", " or ".join(SAES | TRANSCODERS))
    if settings.get("hook_head_index") is not None:
        raise _refused(path, f"hook_head_index {settings['hook_head_index']!r}", "all heads side by side")
    if architecture in TRANSCODERS and settings.get("apply_b_dec_to_input"):
        raise _refused(path, "a transcoder with apply_b_dec_to_input", "false, as sae-lens asks")
    if architecture != "topk":
        return architecture, None
    if not isinstance(k, int) or k < 1:
        raise _refused(path, f"k {k!r}", "a positive number with topk")
    return architecture, TopK(k=k, rectify="after")


def _place(name: object, settings: dict[str, Any], path: Path) -> tuple[int, str]:
    """Layer, and the hook's name inside the block."""
    match = _BLOCK_HOOK.fullmatch(str(name).replace("{layer}", str(settings.get("hook_layer"))))
    if match is None:
        raise _refused(path, f"hook {name!r}", "a hook of a HookedTransformer's block, blocks.LAYER.NAME")
    return int(match[1]), match[2]


def _files(folder: Path, architecture: str, settings: dict[str, Any]) -> LayerFiles:
    path = folder / WEIGHTS
    tensors = safetensors_tensors(path)
    scaling = tensors.pop("scaling_factor", None)
    if scaling is not None and not bool((scaling.whole() == 1).all()):
        raise _refused(path, "scaling_factor of a finetuned SAE", "none, or ones", "sae-lens 6 cannot read it either.")
    if "log_threshold" in tensors:
        tensors["threshold"] = _changed(tensors.pop("log_threshold"), torch.exp)
    expected = _TENSORS | (SAES | TRANSCODERS)[architecture]
    if set(tensors) != expected:
        raise _refused(path, f"tensors {sorted(tensors)}", f"{sorted(expected)} of {architecture}")
    for name in expected & {"W_enc", "W_dec", "W_skip"}:
        if len(tensors[name].shape) != 2:
            raise _refused(path, f"{name} {tensors[name].shape}", "2 dimensions")
    if "threshold" in tensors:
        tensors["threshold"] = _changed(tensors["threshold"], torch.relu)
    W_enc, W_dec, b_dec = tensors["W_enc"].transposed(), tensors["W_dec"].with_written(), tensors["b_dec"]
    scale = _scale(folder, settings)
    if scale is not None:
        if "W_skip" in tensors:
            raise _refused(folder / CONFIG, "normalize_activations with a skip connection", "none")
        W_enc, W_dec, b_dec = scaled(W_enc, scale), scaled(W_dec, 1 / scale), scaled(b_dec, 1 / scale)
    return LayerFiles(
        W_enc=W_enc,
        b_enc=tensors["b_enc"],
        W_dec=W_dec,
        b_dec=b_dec,
        threshold=tensors.get("threshold"),
        W_skip=tensors.get("W_skip"),
        b_in=b_dec if architecture in SAES and settings.get("apply_b_dec_to_input", True) else None,
        where=str(path),
    )


def _scale(folder: Path, settings: dict[str, Any]) -> Tensor | None:
    """The constant that what is read was multiplied by in training, where the weights do not hold it."""
    normalisation = settings.get("normalize_activations") or "none"
    if normalisation == "none":
        return None
    # A truth value in the first versions.
    if normalisation not in ("expected_average_only_in", True):
        raise _refused(
            folder / CONFIG, f"normalize_activations {normalisation!r}", "none or expected_average_only_in",
            "Only one constant for all tokens can be folded: use another.",
        )  # fmt: skip
    path = folder / SCALER
    try:
        scale = json.loads(path.read_text(encoding="utf-8"))["scaling_factor"]
    except (OSError, ValueError, KeyError, TypeError):
        scale = None
    if not isinstance(scale, (int, float)) or scale <= 0:
        raise _refused(
            path, "no scaling_factor", "the constant of normalize_activations expected_average_only_in",
            "Fold it with sae-lens (fold_activation_norm_scaling_factor) and save the result.",
        )  # fmt: skip
    return torch.tensor(float(scale))


def _with_decoder_norms(files: LayerFiles) -> LayerFiles:
    """The same features with activations in units of their decoder row's length."""
    norms = files.W_dec.whole().float()[:, 0].norm(dim=-1)
    return replace(
        files,
        W_enc=_changed(files.W_enc, lambda tensor: tensor * norms[:, None]),
        b_enc=_changed(files.b_enc, lambda tensor: tensor * norms),
        W_dec=_changed(files.W_dec, lambda tensor: tensor / norms.clamp(min=1e-8)[:, None, None]),
    )


def _changed(stored: StoredTensor, change: Callable[[Tensor], Tensor]) -> StoredTensor:
    return in_memory(change(stored.whole().float()), stored.path, stored.name)


def _refused(
    path: Path, found: str, expected: str, to_do: str = "Use another, or save it with sae-lens 6."
) -> ModelError:
    return ModelError(str(path), found=found, expected=expected, to_do=to_do)
