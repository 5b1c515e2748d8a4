"""Node numbering: the only place that knows which index is which node.

The order is circuit-tracer's: features (by layer, position, feature), then errors layer by layer, then tokens, then
targets.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import torch
from jaxtyping import Bool, Int
from torch import Tensor


class NodeKind(IntEnum):
    """The four kinds of node."""

    feature = 0
    error = 1
    token = 2
    logit = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLayout:
    """Maps (kind, layer, pos, feature) to an index and back.

    `features` lists the feature nodes as (layer, pos, feature), sorted.
    """

    features: Int[Tensor, "feature 3"]
    n_layers: int
    n_pos: int
    n_targets: int
    _first_features: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Index of the first feature of each layer, and the end of the last."""

    def __post_init__(self) -> None:
        counts = torch.bincount(self.features[:, 0], minlength=self.n_layers)
        object.__setattr__(self, "_first_features", (0, *counts.cumsum(0).tolist()))

    @property
    def n_features(self) -> int:
        """Feature nodes."""
        return len(self.features)

    @property
    def first_error(self) -> int:
        """Index of the error node of layer 0 at position 0; all before it are features."""
        return self.n_features

    @property
    def first_token(self) -> int:
        """Index of the token node of position 0."""
        return self.first_error + self.n_layers * self.n_pos

    @property
    def first_target(self) -> int:
        """Index of the first target; all before it can be sources."""
        return self.first_token + self.n_pos

    @property
    def n_nodes(self) -> int:
        """All nodes."""
        return self.first_target + self.n_targets

    def errors(self, layer: int) -> slice:
        """Indices of a layer's error nodes, by position."""
        first = self.first_error + layer * self.n_pos
        return slice(first, first + self.n_pos)

    def layer_features(self, layer: int) -> slice:
        """Indices of the feature nodes that read at `layer`."""
        return slice(self._first_features[layer], self._first_features[layer + 1])

    def kinds(self) -> Int[Tensor, " node"]:
        """The `NodeKind` of every node."""
        counts = torch.tensor([self.n_features, self.n_layers * self.n_pos, self.n_pos, self.n_targets])
        return torch.arange(4).repeat_interleave(counts)

    def is_kind(self, kind: NodeKind) -> Bool[Tensor, " node"]:
        """Mask of the nodes of one kind."""
        return self.kinds() == kind

    def layers(self) -> Int[Tensor, " node"]:
        """The layer of features and errors; -1 for tokens, `n_layers` for targets."""
        errors = torch.arange(self.n_layers).repeat_interleave(self.n_pos)
        tokens = torch.full((self.n_pos,), -1)
        targets = torch.full((self.n_targets,), self.n_layers)
        return torch.cat([self.features[:, 0].cpu(), errors, tokens, targets])

    def positions(self, target_pos: Int[Tensor, " target"]) -> Int[Tensor, " node"]:
        """The position of every node, given those of the targets."""
        errors = torch.arange(self.n_pos).repeat(self.n_layers)
        return torch.cat([self.features[:, 1].cpu(), errors, torch.arange(self.n_pos), target_pos.cpu()])
