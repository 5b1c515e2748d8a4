"""Complete rows of one prompt, held as far as a memory budget goes."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.graph.layout import NodeLayout


class KeptRows:
    """Rows by layer, without the columns of nodes that are no sources of that layer.

    Rows that do not fit are let go and listed; whoever needs one computes it again.
    """

    def __init__(self, layout: NodeLayout, budget_bytes: int) -> None:
        self.layout = layout
        self.let_go: list[Int[Tensor, " row"]] = []
        self._left_bytes = budget_bytes
        self._blocks: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._sparse: list[tuple[Tensor, Tensor, Tensor]] = []

    def sources(self, layer: int) -> Int[Tensor, " source"]:
        """Nodes that can be sources of a layer's features (`n_layers`: of targets), in node order."""
        layout = self.layout
        is_target = layer == layout.n_layers
        last_feature = layout.n_features if is_target else layout.layer_features(layer).start
        last_error = layout.first_token if is_target else layout.errors(layer).start
        return torch.cat([
            torch.arange(last_feature),
            torch.arange(layout.first_error, last_error),
            torch.arange(layout.first_token, layout.first_target),
        ])

    def add(self, layer: int, nodes: Int[Tensor, " row"], weights: Float[Tensor, "node row"]) -> None:
        """Hold rows of nodes of one layer, given node by node."""
        sources = self.sources(layer)
        n_bytes = len(sources) * len(nodes) * weights.element_size()
        if n_bytes > self._left_bytes:
            self.let_go.append(nodes)
            return
        self._left_bytes -= n_bytes
        self._blocks.setdefault(layer, []).append((nodes, weights[sources.to(weights.device)].T.cpu()))

    def add_sparse(
        self, nodes: Int[Tensor, " row"], weights: Float[Tensor, "node row"], wanted: Bool[Tensor, " node"]
    ) -> None:
        """Hold only those edges of rows whose source is wanted, whatever the budget."""
        columns = wanted.nonzero().flatten()
        row, column = weights[columns].T.nonzero(as_tuple=True)
        self._sparse.append((nodes[row], columns[column], weights[columns[column], row]))

    def edges(
        self, wanted: Bool[Tensor, " node"] | None = None
    ) -> tuple[Int[Tensor, " edge"], Int[Tensor, " edge"], Float[Tensor, " edge"]]:
        """Target, source and weight of the held edges that are not zero, by target, then source.

        Args:
            wanted: leave out edges of which either end is not in this mask.
        """
        targets, sources, weights = ([part[idx] for part in self._sparse] for idx in range(3))
        for layer in sorted(self._blocks):
            nodes = torch.cat([block_nodes for block_nodes, _ in self._blocks[layer]])
            columns = self.sources(layer)
            order = nodes.argsort()
            if wanted is not None:
                order, places = order[wanted[nodes[order]]], wanted[columns].nonzero().flatten()
                columns = columns[places]
            rows = torch.cat([rows if wanted is None else rows[:, places] for _, rows in self._blocks[layer]])[order]
            row, column = rows.nonzero(as_tuple=True)
            targets.append(nodes[order][row])
            sources.append(columns[column])
            weights.append(rows[row, column])
        target, source, weight = torch.cat(targets), torch.cat(sources), torch.cat(weights)
        if self._sparse:
            order = (target * self.layout.n_nodes + source).argsort()
            target, source, weight = target[order], source[order], weight[order]
        return target, source, weight
