"""What a target is, said without the frozen map: from these the oracle computes a target's value on its own.

Stages of the stream: `2 * layer` in front of a layer's attention, `2 * layer + 1` between its attention and its MLP,
`2 * n_layers` in front of the last norm.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class DemeanedLogit:
    """A token's uncapped logit minus the mean over the vocabulary."""

    pos: int
    token_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitDirection:
    """`sum_i directions[i] . uncapped_logits[pos[i]]`; logits are those in front of a final soft cap."""

    pos: Int[Tensor, " read"]
    directions: Float[Tensor, "read vocab"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDirection:
    """`vector . stream` at a stage and position."""

    stage: int
    pos: int
    vector: Float[Tensor, " d_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRead:
    """A feature's pre-activation; the feature need not be active."""

    layer: int
    pos: int
    feature: int


Definition = DemeanedLogit | LogitDirection | StreamDirection | FeatureRead
