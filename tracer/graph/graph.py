"""The attribution graph of one prompt, as sparse data."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.graph import decided, frames, pruning, scores
from tracer.graph.layout import NodeKind, NodeLayout

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is attributed: a token's logit (`token_id`) or a direction (`token_id` None), at a position."""

    token: str
    token_id: int | None
    pos: int
    weight: float
    """Its weight in influence: the token's probability."""
    logit: float
    """Logit minus the mean over the vocabulary, before a final soft cap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes, and edges `A[target, source]`: the direct effect of a source on a target's pre-activation or demeaned
    logit.

    Every edge is kept until `prune`, unless attribution was told to make only those between nodes that pruning keeps. A
    pruned graph has the same node numbering, with `node_mask` false where a node was dropped. Tensors are on the CPU.
    """

    layout: NodeLayout
    text: str
    token_ids: Int[Tensor, " pos"]
    tokens: tuple[str, ...]
    targets: tuple[Target, ...]
    activations: Float[Tensor, " feature"]
    edge_target: Int[Tensor, " edge"]
    edge_source: Int[Tensor, " edge"]
    edge_weight: Float[Tensor, " edge"]
    has_row: Bool[Tensor, " feature"]
    """Whether the edges into a feature were computed."""
    row_bias: Float[Tensor, " node"]
    """Per node with a row: what its value owes to no node (biases, learned positions, the special token's MLP
    outputs).
    """
    error_share: Float[Tensor, " node"]
    """Per node with a row: share of its absolute edge weights that comes from errors, in the unpruned graph."""
    node_mask: Bool[Tensor, " node"]
    influence: Float[Tensor, " node"]
    """Influence in the unpruned graph, in units of the target weights; `nodes()` gives it as a share of their sum."""
    uncovered_influence: float
    """Influence on features without a row, over the sum of target weights; bounds the error of every influence."""
    n_near_cut: int = 0
    """After pruning: nodes and edges whose cumulative share lies within 1e-6 of a threshold."""

    @property
    def target_weights(self) -> Float[Tensor, " node"]:
        """`w`: the weights of the targets, zero at all other nodes."""
        weights = torch.zeros(self.layout.n_nodes, dtype=self.edge_weight.dtype)
        weights[self.layout.first_target :] = torch.tensor([target.weight for target in self.targets])
        return weights

    def prune(self, node_threshold: float = 0.8, edge_threshold: float = 0.98) -> "Graph":
        """Keep the nodes and edges that carry the stated shares of influence.

        Raises:
            ConfigError: a threshold is outside [0, 1].
        """
        kept = pruning.prune(self, node_threshold=node_threshold, edge_threshold=edge_threshold)
        return replace(
            self,
            edge_target=self.edge_target[kept.edge_mask],
            edge_source=self.edge_source[kept.edge_mask],
            edge_weight=self.edge_weight[kept.edge_mask],
            node_mask=kept.node_mask,
            n_near_cut=kept.n_near_cut,
        )

    def scores(self, chosen: Bool[Tensor, " node"] | None = None) -> "scores.Scores":
        """Replacement and completeness score of the unpruned graph, or of a subgraph of it.

        Args:
            chosen: the features of the subgraph, such as `node_mask` of the pruned graph; all others count as errors.

        Raises:
            DataError: `chosen` is not about the nodes of this graph, or the graph was pruned before.
        """
        return scores.scores(self, chosen)

    def decided(self, node_threshold: float = 0.8) -> "decided.Decided":
        """Which nodes the exact graph certainly keeps or drops at a threshold.

        Raises:
            ConfigError: the threshold is outside [0, 1].
        """
        return decided.decide(self, node_threshold)

    def adjacency(self) -> Float[Tensor, "target source"]:
        """Dense square matrix over all nodes in circuit-tracer's order; memory grows with the square of the nodes."""
        dense = torch.zeros(self.layout.n_nodes, self.layout.n_nodes, dtype=self.edge_weight.dtype)
        dense[self.edge_target, self.edge_source] = self.edge_weight
        return dense

    def nodes(self) -> "pl.DataFrame":
        """Kept nodes in node order, with the columns of the `nodes` table."""
        return frames.nodes(self)

    def edges(self) -> "pl.DataFrame":
        """Kept edges with the columns of the `edges` table; `source_idx` and `target_idx` are `node_idx` of
        `nodes()`.
        """
        return frames.edges(self)

    def count(self, kind: NodeKind) -> int:
        """Kept nodes of one kind."""
        return int((self.node_mask & self.layout.is_kind(kind)).sum())
