"""The nonlinearities of transcoders: pre-activations in, sparse activations out."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ReLU:
    """Positive pre-activations."""

    def apply(self, pre_activations: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Activations."""
        return pre_activations.relu()


@dataclass(frozen=True, slots=True)
class JumpReLU:
    """Pre-activations above their feature's threshold, unchanged (Rajamanoharan et al. 2024).

    BatchTopK (Bussmann et al. 2024) is this once training has fixed its threshold.
    """

    threshold: Float[Tensor, " feature"]

    def apply(self, pre_activations: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Activations."""
        return pre_activations * (pre_activations > self.threshold)


@dataclass(frozen=True, slots=True)
class TopK:
    """The `k` largest pre-activations of each position (Gao et al. 2024).

    Their makers differ in what becomes of negative ones: `no` keeps them (circuit-tracer), `before` applies ReLU first
    (sparsify), `after` applies it to the chosen (sae-lens).
    """

    k: int
    rectify: Literal["no", "before", "after"]

    def apply(self, pre_activations: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """Activations."""
        candidates = pre_activations.relu() if self.rectify == "before" else pre_activations
        top = candidates.topk(self.k, dim=-1)
        values = top.values.relu() if self.rectify == "after" else top.values
        return torch.zeros_like(pre_activations).scatter(-1, top.indices, values)


Nonlinearity = ReLU | JumpReLU | TopK
