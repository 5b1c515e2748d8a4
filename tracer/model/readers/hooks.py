"""What the hook names of transcoder files mean.

The names are those of TransformerLens' HookedTransformer, whose meaning depends on how it processed the weights, and
differs from the bridge's hooks of the same name. `ln2.hook_normalized` is taken after weight and bias under LayerNorm
(up to TransformerLens 2, which circuit-tracer uses; before them since), and before the weight under RMSNorm; with
`fold_ln` the norm has neither weight nor bias any more, and what the MLP reads is the normalised stream itself.
"""

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.transcoders import ReadPoint, WritePoint

WRITE_POINTS: dict[str, WritePoint] = {"mlp.hook_out": "mlp_out", "hook_mlp_out": "residual"}


def block_hook(name: str) -> str:
    """A hook's name inside its block: `blocks.3.hook_mlp_out` is `hook_mlp_out`."""
    parts = name.split(".")
    return ".".join(parts[2:]) if len(parts) > 2 and parts[0] == "blocks" and parts[1].isdigit() else name


def read_point(hook: object, facts: CheckpointFacts, where: str, *, fold_ln: bool = False) -> ReadPoint:
    """The meaning of the hook that features read.

    Args:
        hook: its name, with the block's or without.
        facts: the model's.
        where: the file that names it.
        fold_ln: whether the set was trained on a model whose norm weights were folded into the next matrix.

    Raises:
        ModelError: it is no hook that transcoders of an MLP read, or the model has no such place.
    """
    centred = facts.architecture is not None and facts.architecture.centred_norm
    meanings: dict[str, ReadPoint] = {
        "mlp.hook_in": "normalised" if fold_ln else "mlp_in",
        "hook_resid_mid": "resid_mid",
        "hook_mlp_in": "resid_mid",
        "ln2.hook_normalized": "mlp_in" if centred and not fold_ln else "normalised",
    }
    name = block_hook(str(hook))
    if name not in meanings:
        raise ModelError(
            where, found=f"input hook {hook!r}", expected=" or ".join(meanings),
            to_do="Use transcoders of MLPs, or mend the name.",
        )  # fmt: skip
    if meanings[name] == "resid_mid" and facts.parallel:
        raise ModelError(
            where, found=f"input hook {hook!r} for a model with attention and MLP in parallel",
            expected="mlp.hook_in or ln2.hook_normalized, since no stream lies between attention and MLP",
            to_do="Use transcoders that were made for this model.",
        )  # fmt: skip
    return meanings[name]


def write_point(hook: object, where: str) -> WritePoint:
    """The meaning of the hook that features write.

    Args:
        hook: its name, with the block's or without.
        where: the file that names it.

    Raises:
        ModelError: it is no MLP output.
    """
    name = block_hook(str(hook))
    if name not in WRITE_POINTS:
        raise ModelError(
            where, found=f"output hook {hook!r}", expected=" or ".join(WRITE_POINTS),
            to_do="Use transcoders of MLPs, or mend the name.",
        )  # fmt: skip
    return WRITE_POINTS[name]
