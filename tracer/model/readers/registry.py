"""Which reader a path is for, and the one way from a reference to transcoders.

A format is a small file with `recognises(path)` and `describe(path, facts)`; it is added to `FORMATS`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.readers import (
    circuit_tracer,
    clt_forge,
    gemma_scope,
    gemma_scope_2,
    gpt2_transcoders,
    sae_lens,
    sparsify,
)
from tracer.model.readers.build import build, is_lazy
from tracer.model.readers.set_files import LayerFiles, SetFiles, checked
from tracer.model.references import content_hash, resolve
from tracer.model.shared_weights import shared_set
from tracer.model.stored import safetensors_tensors
from tracer.model.transcoders import TranscoderSet


@dataclass(frozen=True, slots=True)
class Format:
    """A layout of transcoder files."""

    name: str
    recognises: Callable[[Path], bool]
    describe: Callable[[Path, CheckpointFacts], SetFiles]


def read_layer(reference: str | Path, layer: int) -> LayerFiles:
    """The features that read at one layer, in a file of their own, of any maker.

    Args:
        reference: the file, or a reference to it.
        layer: the layer.

    Raises:
        DataError: it is a `.npz` file that is absent or damaged.
        ModelError: it is absent, damaged or of no known maker.
    """
    path = reference if isinstance(reference, Path) else resolve(reference)
    if path.suffix == ".npz":
        return gemma_scope.layer_of(path)
    tensors = safetensors_tensors(path)
    if tensors.keys() >= gemma_scope_2.NAMES:
        return gemma_scope_2.layer_of(tensors, str(path), layer)
    return circuit_tracer.layer_of(tensors, str(path))


FORMATS = (
    Format(
        "circuit-tracer",
        circuit_tracer.recognises,
        lambda path, facts: circuit_tracer.describe(path, facts, read_layer),
    ),
    Format("CLT-Forge", clt_forge.recognises, clt_forge.describe),
    Format("sparsify", sparsify.recognises, sparsify.describe),
    Format("Gemma Scope 2", gemma_scope_2.recognises, gemma_scope_2.describe),
    Format("Gemma Scope", gemma_scope.recognises, gemma_scope.describe),
    Format("GPT-2 transcoders", gpt2_transcoders.recognises, gpt2_transcoders.describe),
    Format("sae-lens", sae_lens.recognises, sae_lens.describe),
)


def describe_transcoders(path: Path, facts: CheckpointFacts) -> SetFiles:
    """What the files of a set hold, checked against each other and the model; nothing of size is read.

    Args:
        path: the set's folder or file.
        facts: the model's.

    Raises:
        DataError: a file of settings or an archive is absent or damaged.
        ModelError: no reader knows the layout, or the set is damaged or does not fit the model.
    """
    for known in FORMATS:
        if known.recognises(path):
            return checked(known.describe(path, facts), facts)
    files = sorted(entry.name for entry in path.iterdir())[:8] if path.is_dir() else [path.name]
    raise ModelError(
        str(path), found=f"files {', '.join(files) or 'none'}",
        expected=f"a transcoder set: {', '.join(known.name for known in FORMATS)} (config.yaml, ...)",
        to_do="Check the folder; tracer/model/readers/README.md lists the layouts.",
    )  # fmt: skip


def set_hash(path: Path) -> str:
    """Hash of a set's files, of those in other repositories too that it lists.

    Args:
        path: the set's folder or file.

    Raises:
        ModelError: its settings cannot be read, or a listed file cannot be fetched.
    """
    hashes = [content_hash(path), *(content_hash(resolve(entry)) for entry in circuit_tracer.listed_elsewhere(path))]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()[:16]


def read_transcoders(
    path: Path,
    facts: CheckpointFacts,
    *,
    device: torch.device,
    lazy_encoder: bool = False,
    lazy_decoder: bool | None = None,
    shared_cache: Path | None = None,
) -> TranscoderSet:
    """Read a set of any known layout for a model, in float32.

    Args:
        path: the set's folder or file.
        facts: the model's.
        device: where everything is put that does not stay on disk.
        lazy_encoder: leave encoders on disk.
        lazy_decoder: leave decoders on disk; when not given, if they are large.
        shared_cache: on a CPU, a folder for held matrices that must be converted, which processes share then.

    Raises:
        DataError: as `describe_transcoders`.
        ModelError: as `describe_transcoders`.
    """
    files = describe_transcoders(path, facts)
    if shared_cache is not None and device.type == "cpu":
        lazy = {"W_enc": lazy_encoder, "W_dec": is_lazy(files, lazy_decoder), "W_skip": False}
        held = [name for name, stays_on_disk in lazy.items() if not stays_on_disk]
        files = shared_set(files, set_hash(path), shared_cache, held)
    return build(files, facts, device=device, lazy_encoder=lazy_encoder, lazy_decoder=lazy_decoder)
