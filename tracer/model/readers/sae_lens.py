"""Reads sae-lens transcoders: a folder with one folder a layer, whose names mean nothing.

Each holds what `sae_lens_folder` describes; which layer it is for, what it reads and what it writes is said by
`hook_name` and `hook_name_out` in its `cfg.json`. A release of sae-lens' own list becomes such a folder by
`tracer.model.sae_lens_releases`.

With `fold_ln` the norm in front of the MLP had no weight and no bias any more when the features were trained. With
`center_writing_weights` the stream and all that is written to it had mean zero, which TransformerLens does for
LayerNorm alone: the encoder's rows take the mean off what a feature reads, and the error term takes that of an MLP
output.
"""

from pathlib import Path

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.readers.hooks import read_point, write_point
from tracer.model.readers.sae_lens_folder import CONFIG, SaeLensFolder, is_folder, read_folder
from tracer.model.readers.set_files import SetFiles


def folders(path: Path) -> list[Path]:
    """Every folder under a path, or the path itself, in which sae-lens saved something."""
    return [config.parent for config in sorted(path.rglob(CONFIG)) if is_folder(config.parent)]


def recognises(path: Path) -> bool:
    """Whether sae-lens saved something in this folder or below it."""
    return path.is_dir() and bool(folders(path))


def describe(path: Path, facts: CheckpointFacts) -> SetFiles:
    """What a folder holds.

    Args:
        path: the folder.
        facts: the model's.

    Raises:
        ModelError: a layer has none or several, one is no transcoder of an MLP, or they do not belong together.
    """
    found = [read_folder(folder) for folder in folders(path)]
    for each in found:
        _check_transcoder(each)
    found = sorted(found, key=lambda each: each.layer)
    layers = [each.layer for each in found]
    if layers != list(range(facts.n_layers)):
        doubled = [Path(each.where).parent.name for each in found if layers.count(each.layer) > 1]
        several = f", several for one layer: {', '.join(doubled[:8])}" if doubled else ""
        raise ModelError(
            str(path), found=f"layers {layers}{several}",
            expected=f"one transcoder for each of layers 0 to {facts.n_layers - 1}",
            to_do="Put the folders of the wanted transcoders beside each other, and no others.",
        )  # fmt: skip
    first = found[0]
    for each in found:
        if _text(each) != _text(first):
            raise ModelError(
                each.where, found=f"hooks, weight processing or model {_text(each)}", expected=_text(first),
                to_do="Use transcoders that were trained alike.",
            )  # fmt: skip
    fold_ln = "fold_ln" in first.processing
    if first.hook == "ln2.hook_normalized" and not fold_ln and facts.architecture and facts.architecture.centred_norm:
        raise ModelError(
            first.where, found="ln2.hook_normalized of a LayerNorm with weight and bias",
            expected="mlp.hook_in, or fold_ln: TransformerLens 2 takes the hook behind the weight, 3 in front of it",
            to_do="If it was trained with TransformerLens 2, write mlp.hook_in into cfg.json.",
        )  # fmt: skip
    return SetFiles(
        format="sae-lens",
        layers=tuple(each.files for each in found),
        read_point=read_point(first.hook, facts, first.where, fold_ln=fold_ln),
        write_point=write_point(first.written_hook, first.where),
        cross_layer=False,
        model_name=first.model_name,
        centred_stream=was_centred(first, facts),
    )


def was_centred(found: SaeLensFolder, facts: CheckpointFacts) -> bool:
    """Whether the stream had mean zero in training: asked for, and the norms centre.

    Args:
        found: an SAE or transcoder.
        facts: the model's.

    Raises:
        ModelError: it was asked for, and the architecture is not in the table, so that its norms are unknown.
    """
    if "center_writing_weights" not in found.processing:
        return False
    if facts.architecture is None:
        raise ModelError(
            found.where, found=f"center_writing_weights for {facts.architecture_name}",
            expected="an architecture of the table, whose norms are known",
            to_do="Add the architecture to tracer.model.architectures.",
        )  # fmt: skip
    return facts.architecture.centred_norm


def _check_transcoder(found: SaeLensFolder) -> None:
    if not found.is_transcoder:
        raise ModelError(
            found.where, found=f"an SAE of {found.hook}",
            expected="transcoders, which read one place and write another",
            to_do="Read SAEs by tracer.model.dictionaries.",
        )  # fmt: skip
    if found.layer != found.written_layer:
        raise ModelError(
            found.where, found=f"a transcoder from layer {found.layer} to layer {found.written_layer}",
            expected="one that writes at the layer where it reads", to_do="Use transcoders of MLPs.",
        )  # fmt: skip


def _text(found: SaeLensFolder) -> str:
    return f"{found.hook}, {found.written_hook}, {sorted(found.processing)}, {found.model_name!r}"
