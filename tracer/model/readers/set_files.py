"""What a transcoder set's files hold, in one form for all formats, before anything of size is read.

A reader of a format only says where each matrix lies and which way round it is stored; checks, folding and building
are the same for all (`checked`, `build.py`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.errors import ModelError
from tracer.files.limits import read_json_file
from tracer.model.architectures import CheckpointFacts
from tracer.model.nonlinearity import TopK
from tracer.model.stored import StoredTensor
from tracer.model.transcoders import ReadPoint, WritePoint


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFiles:
    """The tensors of the features that read at one layer, each turned so that its shape is as stated."""

    W_enc: StoredTensor
    """(feature, d_model)"""
    b_enc: StoredTensor
    """(feature,)"""
    W_dec: StoredTensor
    """(feature, written, d_model); index `w` writes at the features' own layer plus `w`"""
    b_dec: StoredTensor
    """(d_model,)"""
    threshold: StoredTensor | None = None
    """(feature,), or one for all; JumpReLU where present"""
    W_skip: StoredTensor | None = None
    """(d_model, d_model), applied as `read @ W_skip.T`"""
    b_in: StoredTensor | None = None
    """(d_model,), subtracted from what the encoder reads"""
    where: str
    """The files, for messages."""

    def stored(self) -> Iterator[tuple[str, StoredTensor]]:
        """Name and place of every tensor there is."""
        for name in ("W_enc", "b_enc", "W_dec", "b_dec", "threshold", "W_skip", "b_in"):
            tensor = getattr(self, name)
            if tensor is not None:
                yield name, tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFiles:
    """A transcoder set as its files describe it."""

    format: str
    """The reader's name."""
    layers: tuple[LayerFiles, ...]
    read_point: ReadPoint
    write_point: WritePoint
    cross_layer: bool
    model_name: str = ""
    """The checkpoint that the files say they were made for; empty where they do not say."""
    topk: TopK | None = None
    """The nonlinearity where it is TopK; else JumpReLU where there are thresholds, and ReLU where there are none."""
    centred_stream: bool = False
    """Whether the set was trained on a stream whose mean over `d_model` is zero (`center_writing_weights`)."""

    @property
    def n_decoder_bytes(self) -> int:
        """What all decoders take in float32."""
        return sum(layer.W_dec.n_bytes for layer in self.layers)


def settings_of(path: Path) -> dict[str, Any]:
    """The object in a JSON file of settings.

    Raises:
        DataError: there is no such file, or it is no JSON.
        ModelError: it holds something else than one object.
    """
    settings = read_json_file(path)
    if not isinstance(settings, dict):
        raise ModelError(
            str(path), found=f"a {type(settings).__name__}", expected="an object of settings", to_do="Check the file."
        )
    return settings


def check_names(found: Collection[str], where: str, required: Collection[str], allowed: Collection[str] = ()) -> None:
    """Refuse a file that lacks a tensor or holds one of unknown meaning.

    Args:
        found: names of its tensors.
        where: the file.
        required: names that must be there.
        allowed: further names that may be there.

    Raises:
        ModelError: naming what is missing and what is unknown.
    """
    missing, unknown = set(required) - set(found), set(found) - set(required) - set(allowed)
    if missing or unknown:
        perhaps = f" and perhaps {sorted(allowed)}" if allowed else ""
        raise ModelError(
            where, found=f"tensors {sorted(found)}", expected=f"{sorted(required)}{perhaps}",
            to_do=f"Check the file: missing {sorted(missing) or 'none'}, unknown {sorted(unknown) or 'none'}.",
        )  # fmt: skip


def one_per_layer(candidates: Mapping[int, Sequence[Path]], n_layers: int, folder: Path) -> list[Path]:
    """The one file of each layer of the model, in order.

    Args:
        candidates: what a folder holds for each layer.
        n_layers: of the model.
        folder: the set.

    Raises:
        ModelError: a layer has none, as in a set of some layers, or has several, which differ in width or sparsity.
    """
    several = {layer: paths for layer, paths in sorted(candidates.items()) if len(paths) > 1}
    for layer, paths in several.items():
        names = [str(path.relative_to(folder)) for path in sorted(paths)]
        raise ModelError(
            str(folder), found=f"{len(paths)} transcoders of layer {layer}: {', '.join(names)}", expected="one a layer",
            to_do="Write a config.yaml in circuit-tracer's format that lists the file of each layer under transcoders.",
        )  # fmt: skip
    missing = sorted(set(range(n_layers)) - candidates.keys())
    if missing or len(candidates) != n_layers:
        raise ModelError(
            str(folder), found=f"layers {', '.join(map(str, sorted(candidates))) or 'none'}",
            expected=f"layers 0 to {n_layers - 1}, as the model has",
            to_do="An attribution graph needs a transcoder of every layer: complete the set or use another.",
        )  # fmt: skip
    return [candidates[layer][0] for layer in range(n_layers)]


def checked(files: SetFiles, facts: CheckpointFacts) -> SetFiles:
    """The same set, once every shape fits the others and the model.

    Raises:
        ModelError: naming the layer, what was found and what was expected.
    """
    if len(files.layers) != facts.n_layers:
        raise ModelError(
            files.format, found=f"{len(files.layers)} layers", expected=f"{facts.n_layers}, as the model has",
            to_do="Use transcoders that were made for this model.",
        )  # fmt: skip
    if files.read_point == "resid_mid" and facts.parallel:
        raise ModelError(
            files.format, found="features that read the stream between attention and MLP",
            expected="mlp.hook_in or ln2.hook_normalized: attention and MLP work in parallel in this model",
            to_do="Use transcoders that were made for this model.",
        )  # fmt: skip
    for layer, found in enumerate(files.layers):
        _check_layer(found, layer, files, facts)
    return files


def check_shapes(found: LayerFiles, where: str, topk: TopK | None, *, cross_layer: bool = False) -> None:
    """Refuse a layer whose tensors do not fit each other.

    Args:
        found: the layer.
        where: the files and the layer, for messages.
        topk: the nonlinearity where it is TopK.
        cross_layer: whether its features write several layers.

    Raises:
        ModelError: naming the tensor, its shape and the one that the decoder asks for.
    """
    if len(found.W_dec.shape) != 3:
        raise ModelError(
            where, found=f"W_dec {found.W_dec.shape}", expected=f"{3 if cross_layer else 2} dimensions",
            to_do="Check the files.",
        )  # fmt: skip
    n_features, n_written, d_model = found.W_dec.shape
    expected: dict[str, tuple[tuple[int, ...], ...]] = {
        "W_enc": ((n_features, d_model),),
        "b_enc": ((n_features,),),
        "W_dec": ((n_features, n_written, d_model),),
        "b_dec": ((d_model,),),
        "threshold": ((n_features,), (1,), ()),
        "W_skip": ((d_model, d_model),),
        "b_in": ((d_model,),),
    }
    for name, tensor in found.stored():
        if tensor.shape not in expected[name]:
            raise ModelError(
                where, found=f"{name} {tensor.shape}", expected=f"{name} {expected[name][0]}, as W_dec asks for",
                to_do="Check the files: a matrix may be stored the other way round.",
            )  # fmt: skip
    if topk is not None and topk.k > n_features:
        raise ModelError(where, found=f"k {topk.k}", expected=f"at most {n_features} features", to_do="Mend it.")


def _check_layer(found: LayerFiles, layer: int, files: SetFiles, facts: CheckpointFacts) -> None:
    where = f"{found.where}, layer {layer}"
    check_shapes(found, where, files.topk, cross_layer=files.cross_layer)
    _, n_written, d_model = found.W_dec.shape
    expected_written = facts.n_layers - layer if files.cross_layer else 1
    if d_model != facts.d_model or n_written != expected_written:
        raise ModelError(
            where, found=f"width {d_model}, writing {n_written} layer(s)",
            expected=f"width {facts.d_model}, writing {expected_written} layer(s), as the model has",
            to_do="Use transcoders that were made for this model.",
        )  # fmt: skip
