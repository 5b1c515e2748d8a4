"""Complete rows of one prompt, held as far as a memory budget goes."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.graph.layout import NodeLayout

MAX_EDGES_AT_ONCE = 2**17
"""Entries of rows that are made into edges at once; bounds the indices that this takes."""


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
        last_feature, last_error = self._bounds(layer)
        return torch.cat([
            torch.arange(last_feature),
            torch.arange(self.layout.first_error, last_error),
            torch.arange(self.layout.first_token, self.layout.first_target),
        ])

    def _bounds(self, layer: int) -> tuple[int, int]:
        """Where the features and the errors below a layer end."""
        if layer == self.layout.n_layers:
            return self.layout.n_features, self.layout.first_token
        return self.layout.layer_features(layer).start, self.layout.errors(layer).start

    def add(self, layer: int, nodes: Int[Tensor, " row"], weights: Float[Tensor, "node row"]) -> None:
        """Hold rows of nodes of one layer, given node by node."""
        last_feature, last_error = self._bounds(layer)
        sources = [weights[:last_feature], weights[self.layout.first_error : last_error]]
        sources.append(weights[self.layout.first_token : self.layout.first_target])
        n_bytes = sum(part.numel() for part in sources) * weights.element_size()
        if n_bytes > self._left_bytes:
            self.let_go.append(nodes)
            return
        self._left_bytes -= n_bytes
        self._blocks.setdefault(layer, []).append((nodes, torch.cat([part.T for part in sources], dim=1)))

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
        """Target, source and weight of the held edges that are not zero, by target, then source; they are let go here.

        Indices are int32: every edge of a graph costs 12 bytes.

        Args:
            wanted: leave out edges of which either end is not in this mask.
        """
        n_edges = sum(int(rows.count_nonzero()) for blocks in self._blocks.values() for _, rows in blocks)
        n_edges += sum(len(weight) for *_, weight in self._sparse)
        target, source = torch.empty(n_edges, dtype=torch.int32), torch.empty(n_edges, dtype=torch.int32)
        weight, n = torch.empty(n_edges), 0
        for layer in sorted(self._blocks):
            for part in self._of_layer(layer, wanted):
                end = n + len(part[2])
                target[n:end], source[n:end], weight[n:end] = part
                n = end
        for part in self._sparse:
            end = n + len(part[2])
            target[n:end], source[n:end], weight[n:end] = part
            n = end
        target, source, weight = target[:n], source[:n], weight[:n]
        if self._sparse:
            order = (target.long() * self.layout.n_nodes + source).argsort()
            target, source, weight = target[order], source[order], weight[order]
        return (target, source, weight) if n == n_edges else (target.clone(), source.clone(), weight.clone())

    def _of_layer(
        self, layer: int, wanted: Bool[Tensor, " node"] | None
    ) -> Iterator[tuple[Int[Tensor, " edge"], Int[Tensor, " edge"], Float[Tensor, " edge"]]]:
        blocks, columns = self._blocks.pop(layer), self.sources(layer)
        nodes = torch.cat([block_nodes for block_nodes, _ in blocks])
        order = nodes.argsort()
        rows = blocks[0][1] if len(blocks) == 1 else torch.cat([rows for _, rows in blocks])
        del blocks
        if wanted is not None:
            order, places = order[wanted[nodes[order]]], wanted[columns].nonzero().flatten()
            columns, rows = columns[places], rows[:, places.to(rows.device)]
        n_columns = max(1, len(columns))
        # NumPy finds and takes what is not zero several times faster than torch does on a CPU.
        places_of = np.broadcast_to(columns.int().numpy(), (MAX_EDGES_AT_ONCE // n_columns + 1, len(columns))).ravel()
        for some in order.split(max(1, MAX_EDGES_AT_ONCE // n_columns)):
            part = rows.index_select(0, some.to(rows.device)).cpu().numpy()
            is_edge = part != 0
            found = np.flatnonzero(is_edge)
            target = np.repeat(nodes[some].int().numpy(), np.count_nonzero(is_edge, axis=1))
            yield torch.from_numpy(target), torch.from_numpy(places_of[found]), torch.from_numpy(part.ravel()[found])
