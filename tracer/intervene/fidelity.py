"""How well a transcoder set stands for the MLPs of its model, on given token rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tracer.model.replacement import Hook, ReplacementModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """Per layer where a tuple; ignored positions are left out."""

    explained_variance: tuple[float, ...]
    """One minus the squared error over the variance of MLP outputs around their mean."""
    l0: tuple[float, ...]
    """Mean active features per token."""
    n_dead: tuple[int, ...]
    """Features that never fired on the rows."""
    loss: float
    """Mean next-token cross-entropy of the bare model, nats."""
    loss_replaced: float
    """The same with every MLP output replaced by its reconstruction."""
    loss_ablated: float
    """The same with every MLP output set to zero."""

    @property
    def loss_recovered(self) -> float:
        """Share of the loss that ablation costs which the reconstruction wins back."""
        return (self.loss_ablated - self.loss_replaced) / (self.loss_ablated - self.loss)


def _loss(logits: Tensor, token_ids: Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits[:-1], token_ids[1:]))


def _ablated_logits(model: ReplacementModel, token_ids: Tensor) -> Tensor:
    n_ignored = model.facts.n_ignored_positions(token_ids.tolist())

    def ablate(output: Tensor, hook: Any) -> Tensor:
        return torch.cat([output[:, :n_ignored], torch.zeros_like(output[:, n_ignored:])], dim=1)

    hooks: list[Hook] = [(model.hook_names.write(layer), ablate) for layer in range(model.n_layers)]
    with model.hooks(hooks) as bridge:
        return bridge(token_ids[None])[0]


@torch.no_grad()
def measure_fidelity(model: ReplacementModel, rows: Sequence[Int[Tensor, " _"]]) -> Fidelity:
    """Measure on rows of token ids of any length, special token in front; cross-entropies are means over rows."""
    outputs: list[Tensor] = []
    residuals: list[Tensor] = []
    fired = [torch.zeros(n_features, dtype=torch.long) for n_features in model.transcoders.n_features]
    losses: list[tuple[float, float, float]] = []
    for token_ids in rows:
        n_ignored = model.facts.n_ignored_positions(token_ids.tolist())
        forward = model.forward(token_ids)
        active = model.active_features(forward)
        decoded = torch.stack([
            model.transcoders.reconstruction(active, forward.reads, layer) for layer in range(model.n_layers)
        ])
        outputs.append(forward.mlp_outputs[:, n_ignored:])
        residuals.append((forward.mlp_outputs - decoded)[:, n_ignored:])
        for layer, activations in enumerate(active):
            fired[layer] += torch.bincount(activations.feature.cpu(), minlength=len(fired[layer]))
        losses.append((
            _loss(forward.logits, token_ids),
            _loss(model.replaced_logits(token_ids), token_ids),
            _loss(_ablated_logits(model, token_ids), token_ids),
        ))
    output, residual = torch.cat(outputs, dim=1), torch.cat(residuals, dim=1)
    variance = (output - output.mean(1, keepdim=True)).square().sum((1, 2))
    explained = 1 - residual.square().sum((1, 2)) / variance
    bare, replaced, ablated = (sum(column) / len(losses) for column in zip(*losses, strict=True))
    return Fidelity(
        explained_variance=tuple(explained.tolist()),
        l0=tuple(float(counts.sum()) / output.shape[1] for counts in fired),
        n_dead=tuple(int((counts == 0).sum()) for counts in fired),
        loss=bare,
        loss_replaced=replaced,
        loss_ablated=ablated,
    )
