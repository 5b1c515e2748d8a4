"""Influence: how much each node matters for the targets. The only solver.

With `Ahat = |A| / rowsum|A|` and `w` the weights of the targets, influence is `I = w (Ahat + Ahat^2 + ...)` (Ameisen et
al. 2025). The graph has no cycles, so the series ends.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

ROW_SUM_FLOOR = 1e-10
"""Rows that sum to less are divided by this instead, as in circuit-tracer's graph code."""


def normalise_rows(weights: Float[Tensor, "row source"]) -> Float[Tensor, "row source"]:
    """`|A|` with every row divided by its sum."""
    weights = weights.abs()
    return weights / weights.sum(1, keepdim=True).clamp_min(ROW_SUM_FLOOR)


def normalise_edges(
    target: Int[Tensor, " edge"], weight: Float[Tensor, " edge"], n_nodes: int
) -> Float[Tensor, " edge"]:
    """The same for a sparse graph: each absolute weight over the sum of its target's row."""
    absolute = weight.abs()
    row_sums = torch.zeros(n_nodes, dtype=weight.dtype, device=weight.device).index_add_(0, target, absolute)
    return absolute / row_sums.clamp_min(ROW_SUM_FLOOR)[target]


def influence(
    normalised_rows: Float[Tensor, "row node"], row_nodes: Int[Tensor, " row"], weights: Float[Tensor, " node"]
) -> Float[Tensor, " node"]:
    """Influence of every node.

    Args:
        normalised_rows: rows of `Ahat`, dense or sparse; nodes without a row pass nothing on.
        row_nodes: the node that each row belongs to.
        weights: `w`, zero except at the targets.
    """
    columns = normalised_rows.t()
    total = torch.zeros_like(weights)
    term = weights
    for _ in range(len(weights) + 1):
        term = columns @ term[row_nodes]
        if not term.any():
            return total
        total = total + term
    raise AssertionError("an attribution graph has a cycle")


def edge_influence(
    target: Int[Tensor, " edge"],
    source: Int[Tensor, " edge"],
    normalised: Float[Tensor, " edge"],
    weights: Float[Tensor, " node"],
) -> Float[Tensor, " node"]:
    """Influence of every node of a sparse graph."""
    n_nodes = len(weights)
    rows = torch.sparse_coo_tensor(
        torch.stack([target, source]).long(), normalised, (n_nodes, n_nodes), check_invariants=False
    )
    return influence(rows.coalesce(), torch.arange(n_nodes, device=weights.device), weights)


class DescendingInfluence:
    """Influence while rows become known from the targets down, each layer's after those of all layers above it.

    A node's influence is final as soon as the rows of the layers above it are in, so no row needs to be held for it.
    Of one graph, or of several side by side.
    """

    def __init__(self, weights: Float[Tensor, "*graph node"]) -> None:
        self.weights = weights.double()
        self.influence: Float[Tensor, "*graph node"] = torch.zeros_like(self.weights)

    def add(
        self,
        nodes: Int[Tensor, "*graph row"],
        absolute: Float[Tensor, "*graph source row"],
        flows: Bool[Tensor, "*graph row"] | None = None,
    ) -> Float[Tensor, "*graph row"]:
        """Let the influence of nodes flow on to their sources; gives the sums by which their rows are normalised.

        Args:
            nodes: whose rows these are.
            absolute: `|A|` of these rows, source by source.
            flows: the rows whose turn it is; all where not given.
        """
        sums = absolute.sum(-2).clamp_min(ROW_SUM_FLOOR)
        flow = (self.influence.gather(-1, nodes) + self.weights.gather(-1, nodes)) / sums
        if flows is not None:
            flow = flow * flows
        arriving = (absolute @ flow.to(absolute.dtype)[..., None])[..., 0]
        self.influence[..., : absolute.shape[-2]] += arriving.double()
        return sums
