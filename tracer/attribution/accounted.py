"""What the rows of a prompt come to, whichever way they were computed; a graph is made of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.attribution.prepared import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Accounted:
    """Edges of one prompt, and what is known of its nodes; the fields are those of `Graph`."""

    edge_target: Int[Tensor, " edge"]
    edge_source: Int[Tensor, " edge"]
    edge_weight: Float[Tensor, " edge"]
    has_row: Bool[Tensor, " feature"]
    row_bias: Float[Tensor, " node"]
    error_share: Float[Tensor, " node"]
    node_mask: Bool[Tensor, " node"]
    influence: Float[Tensor, " node"]
    uncovered_influence: float


def target_weights(prepared: Prepared) -> Float[Tensor, " node"]:
    """The weights of a prompt's targets, zero at all other nodes."""
    weights = prepared.errors.new_zeros(prepared.layout.n_nodes)
    weights[prepared.layout.first_target :] = torch.tensor([target.weight for target in prepared.targets.targets])
    return weights
