"""Everything known about one prompt before its edges are computed: nodes, activations, errors, targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.encoded import Encoded, encode
from tracer.attribution.targets import Targets, choose_targets
from tracer.errors import DataError
from tracer.graph.layout import NodeLayout
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import Activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One prompt, ready for its rows."""

    forward: Forward
    layout: NodeLayout
    active: tuple[Activations, ...]
    activations: Float[Tensor, " feature"]
    errors: Float[Tensor, "layer pos d_model"]
    """MLP output minus reconstruction, at the transcoders' write point; zero at ignored positions."""
    targets: Targets
    n_ignored: int
    """Leading positions without features and errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of the adjacency: `weights[i, source]` is the direct effect of `source` on the i-th asked node."""

    weights: Float[Tensor, "row node"]
    bias: Float[Tensor, " row"]
    """What the node's value owes to no node; the row's sum plus this is its pre-activation or demeaned logit."""


@torch.no_grad()
def prepare(
    model: ReplacementModel,
    token_ids: Int[Tensor, " pos"],
    *,
    given_targets: Sequence[Any] = (),
    positions: Sequence[int] = (-1,),
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
) -> Prepared:
    """Run the model once; list active features and errors; choose targets.

    Args:
        model: the replacement model.
        token_ids: the prompt with its special token.
        given_targets: what is attributed; the salient logits where nothing is given.
        positions: where the salient logits are taken; negative ones count from the end.
        max_n_logits: at most this many salient logits a position.
        desired_logit_prob: probability mass that they reach.

    Raises:
        ConfigError: a setting is out of range.
        DataError: a given target is not in the vocabulary, or the forward pass overflows.
    """
    return prepare_forward(
        model, model.forward(token_ids), given_targets=given_targets, positions=positions,
        max_n_logits=max_n_logits, desired_logit_prob=desired_logit_prob,
    )  # fmt: skip


@torch.no_grad()
def prepare_forward(
    model: ReplacementModel,
    forward: Forward,
    *,
    given_targets: Sequence[Any] = (),
    positions: Sequence[int] = (-1,),
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
    encoded: Encoded | None = None,
) -> Prepared:
    """The same from a captured forward pass, and from what the transcoders made of it where that is known."""
    if not bool(forward.logits.isfinite().all() and forward.reads.isfinite().all()):
        raise DataError(
            "forward pass",
            found="logits or MLP inputs that are infinite or not a number",
            expected="finite values",
            to_do="Check the checkpoint; half-precision weights may overflow on this prompt.",
        )
    if encoded is None:
        (encoded,) = encode(model, [forward])
    targets = choose_targets(
        model, forward, given=given_targets, positions=positions, max_n_logits=max_n_logits,
        desired_logit_prob=desired_logit_prob,
    )  # fmt: skip
    layout = NodeLayout(
        features=encoded.features.cpu(),
        n_layers=model.n_layers,
        n_pos=forward.n_pos,
        n_targets=len(targets.targets),
    )
    return Prepared(
        forward=forward,
        layout=layout,
        active=encoded.active,
        activations=encoded.activations,
        errors=encoded.errors,
        targets=targets,
        n_ignored=encoded.n_ignored,
    )
