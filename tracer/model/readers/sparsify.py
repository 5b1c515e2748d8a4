"""Reads transcoders of EleutherAI's sparsify: a folder a hookpoint with `cfg.json` and `sae.safetensors`.

Layout as in the public package eai-sparsify 1.3.3 (`sparse_coder.py`, `fused_encoder.py`, `trainer.py`): folders are
named like the module, `layers.{i}.mlp` or `h.{i}.mlp`, whose input is read and whose output is written. Tensors are
`encoder.weight (feature, d_model)`, `encoder.bias`, `W_dec (feature, d_model)`, `b_dec` and, with `skip_connection`,
`W_skip`, applied as `x @ W_skip^T`. `activation: topk`, also where it is not stated, keeps the `k` largest after ReLU;
`groupmax` is not supported. `normalize_decoder` and `multi_topk` matter in training only.

sparsify subtracts `b_dec` from what the encoder reads unless `cfg.json` says `transcode: true`. Transcoders from before
that setting lack it and were trained so too; that they are transcoders shows in their skip connection or in `transcode`
of the `config.json` beside the folders.
"""

import re
from pathlib import Path
from typing import Any

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.nonlinearity import TopK
from tracer.model.readers.set_files import LayerFiles, SetFiles, check_names, one_per_layer, settings_of
from tracer.model.stored import safetensors_tensors

_FILE = "sae.safetensors"
_FOLDER = re.compile(r"(?:.+\.)?(\d+)\.mlp")
_NAMES = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")


def recognises(path: Path) -> bool:
    """Whether a folder holds hookpoint folders."""
    return path.is_dir() and any(path.glob(f"*/{_FILE}"))


def describe(folder: Path, facts: CheckpointFacts) -> SetFiles:
    """What a folder holds.

    Args:
        folder: the set.
        facts: the model's.

    Raises:
        DataError: a `cfg.json` is absent or no JSON.
        ModelError: a layer has no transcoder, it is an autoencoder, its nonlinearity is not supported or not the same
            in all layers, or a tensor is missing or unknown.
    """
    shared = settings_of(folder / "config.json") if (folder / "config.json").is_file() else {}
    settings, layers = [], []
    for found in one_per_layer(_hookpoints(folder), facts.n_layers, folder):
        settings.append(settings_of(found / "cfg.json"))
        _check_settings(settings[-1], shared, found / "cfg.json")
        layers.append(_layer(found / _FILE, subtracts=not settings[-1].get("transcode")))
    sizes = sorted({found["k"] for found in settings})
    if len(sizes) > 1:
        raise ModelError(
            str(folder), found=f"k {', '.join(map(str, sizes))} in different layers", expected="one k",
            to_do="Use a set that was trained with one k.",
        )  # fmt: skip
    return SetFiles(
        format="sparsify",
        layers=tuple(layers),
        read_point="mlp_in",
        write_point="mlp_out",
        cross_layer=False,
        model_name=str(shared.get("model") or ""),
        topk=TopK(k=sizes[0], rectify="before"),
    )


def _hookpoints(folder: Path) -> dict[int, list[Path]]:
    found: dict[int, list[Path]] = {}
    others = []
    for path in sorted(entry.parent for entry in folder.glob(f"*/{_FILE}")):
        match = _FOLDER.fullmatch(path.name)
        if match:
            found.setdefault(int(match[1]), []).append(path)
        else:
            others.append(path.name)
    if not found:
        raise ModelError(
            str(folder), found=f"hookpoints {', '.join(others[:8])}", expected="layers.{i}.mlp or h.{i}.mlp",
            to_do="Use transcoders of MLPs.",
        )  # fmt: skip
    return found


def _check_settings(settings: dict[str, Any], shared: dict[str, Any], path: Path) -> None:
    of_coder = shared.get("sae")
    places = (settings, shared, of_coder if isinstance(of_coder, dict) else {})
    stated = [found["transcode"] for found in places if "transcode" in found]
    if not (stated[0] if stated else settings.get("skip_connection")):
        raise ModelError(
            str(path), found=f"transcode {stated[0] if stated else 'not stated'}", expected="a transcoder",
            to_do="Autoencoders cannot replace an MLP. Where these are transcoders, say transcode in a config.json "
            "beside the hookpoint folders.",
        )  # fmt: skip
    k = settings.get("k")
    if settings.get("activation", "topk") != "topk" or settings.get("signed") or type(k) is not int or k < 1:
        found = f"activation {settings.get('activation')!r}, k {k!r}, signed {settings.get('signed')!r}"
        raise ModelError(
            str(path), found=found, expected="activation topk after ReLU with a positive k",
            to_do="This nonlinearity is not supported: use another set.",
        )  # fmt: skip


def _layer(path: Path, *, subtracts: bool) -> LayerFiles:
    tensors = safetensors_tensors(path)
    check_names(tensors, str(path), _NAMES, ("W_skip",))
    return LayerFiles(
        W_enc=tensors["encoder.weight"],
        b_enc=tensors["encoder.bias"],
        W_dec=tensors["W_dec"].with_written(),
        b_dec=tensors["b_dec"],
        W_skip=tensors.get("W_skip"),
        b_in=tensors["b_dec"] if subtracts else None,
        where=str(path),
    )
