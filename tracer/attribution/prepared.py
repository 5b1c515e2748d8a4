"""Everything known about one prompt before its edges are computed: nodes, activations, errors, targets."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
    """MLP output minus reconstruction; zero at ignored positions."""
    targets: Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of the adjacency: `weights[i, source]` is the direct effect of `source` on the i-th asked node."""

    weights: Float[Tensor, "row node"]
    bias: Float[Tensor, " row"]
    """What the node's value owes to no node; the row's sum plus this is its pre-activation or demeaned logit."""


def _reconstructions(model: ReplacementModel, active: Sequence[Activations], n_pos: int) -> list[Tensor]:
    """Decoded MLP outputs of every layer without errors."""
    transcoders = model.transcoders
    dense = []
    for layer, activations in zip(transcoders.layers, active, strict=True):
        values = torch.zeros(n_pos, len(layer.b_enc), dtype=layer.b_enc.dtype, device=layer.b_enc.device)
        values[activations.pos, activations.feature] = activations.value
        dense.append(values)
    return [transcoders.decode(dense, layer) for layer in range(transcoders.n_layers)]


@torch.no_grad()
def prepare(
    model: ReplacementModel,
    token_ids: Int[Tensor, " pos"],
    *,
    given_targets: Sequence[int | str] = (),
    max_n_logits: int = 10,
    desired_logit_prob: float = 0.95,
) -> Prepared:
    """Run the model once; list active features and errors; choose targets.

    Raises:
        ConfigError: a setting is out of range.
        DataError: a given target is not in the vocabulary, or the forward pass overflows.
    """
    forward = model.forward(token_ids)
    if not bool(forward.logits.isfinite().all() and forward.reads.isfinite().all()):
        raise DataError(
            "forward pass",
            found="logits or MLP inputs that are infinite or not a number",
            expected="finite values",
            to_do="Check the checkpoint; half-precision weights may overflow on this prompt.",
        )
    active = model.active_features(forward)
    targets = choose_targets(
        model, forward, given=given_targets, max_n_logits=max_n_logits, desired_logit_prob=desired_logit_prob
    )
    reconstruction = torch.stack(_reconstructions(model, active, forward.n_pos))
    errors = forward.mlp_outputs - reconstruction
    errors[:, : model.facts.architecture.n_ignored_positions] = 0
    features = [
        torch.stack([torch.full_like(activations.pos, layer), activations.pos, activations.feature], dim=1)
        for layer, activations in enumerate(active)
    ]
    layout = NodeLayout(
        features=torch.cat(features).cpu(),
        n_layers=model.n_layers,
        n_pos=forward.n_pos,
        n_targets=len(targets.targets),
    )
    return Prepared(
        forward=forward,
        layout=layout,
        active=tuple(active),
        activations=torch.cat([activations.value for activations in active]),
        errors=errors,
        targets=targets,
    )
