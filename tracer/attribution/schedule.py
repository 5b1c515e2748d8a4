"""Which rows are computed: layer by layer from the targets down, with a stated bound.

Influence flows down, so when the rows of all higher layers are in, what the features of a layer are worth is known. The
influence that sits on features without a row, `U` (as a share of the target weights), bounds what is missing: `0 <= I -
I_computed <= U`, because an absorbed random walk visits a node at most once. Each layer leaves out its least
influential features, as many as its share of what may stay uncovered allows; what it does not use goes to the layers
below. The choice depends on influences alone, not on which rows or prompts are computed together.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.attribution.accounted import Accounted
from tracer.attribution.kept_rows import KeptRows
from tracer.graph.influence import DescendingInfluence
from tracer.graph.layout import NodeLayout

NodeRequest = tuple[int, Int[Tensor, " _"]]
"""A prompt's index in the pass, and nodes of it."""
NodeRows = tuple[int, Int[Tensor, " _"], Float[Tensor, "_ _"], Float[Tensor, " _"]]
"""Prompt, nodes, their rows node by node, and what their values owe to no node."""
RowsOf = Callable[[Sequence[NodeRequest]], Iterable[NodeRows]]


@dataclass(slots=True, kw_only=True)
class PromptRows:
    """What is known of one prompt's adjacency so far; what grows with the nodes is where the rows are computed."""

    layout: NodeLayout
    target_weights: Float[Tensor, " node"]
    coverage: float
    max_feature_nodes: int | None
    kept: KeptRows
    tracked: DescendingInfluence = field(init=False)
    has_row: Bool[Tensor, " feature"] = field(init=False)
    row_bias: Float[Tensor, " node"] = field(init=False)
    error_share: Float[Tensor, " node"] = field(init=False)
    """Share of a row's absolute sum that comes from errors."""
    left_out: float = field(init=False, default=0.0)
    """Influence left out so far, in units of the target weights."""

    def __post_init__(self) -> None:
        self.tracked = DescendingInfluence(self.target_weights)
        self.has_row = torch.zeros(self.layout.n_features, dtype=torch.bool)
        self.row_bias = torch.zeros_like(self.target_weights)
        self.error_share = torch.zeros_like(self.target_weights)

    @property
    def uncovered_influence(self) -> float:
        """`U`."""
        waiting = self.tracked.influence[: self.layout.n_features][~self.has_row.to(self.tracked.influence.device)]
        return float(waiting.sum() / self.tracked.weights.sum())

    def choose(self, layer: int) -> Int[Tensor, " chosen"]:
        """The features of a layer whose rows are computed, once those of all higher layers are."""
        found = self.layout.layer_features(layer)
        influence = self.tracked.influence[: found.stop].cpu()
        reach = influence[found]
        wanted = torch.ones_like(reach, dtype=torch.bool)
        if self.coverage < 1.0:
            values, order = reach.sort(stable=True)
            wanted[order[values.cumsum(0) <= self._allowance(layer)]] = False
        if self.max_feature_nodes is not None:
            n_left = self.max_feature_nodes - int(self.has_row.sum())
            best = influence.topk(min(n_left, found.stop)).indices
            wanted &= torch.zeros(found.stop, dtype=torch.bool).index_fill_(0, best, True)[found]
        self.left_out += float(reach[~wanted].sum())
        return wanted.nonzero().flatten() + found.start

    def _allowance(self, layer: int) -> float:
        """Influence that a layer may leave out: its share, by the work that its rows and those below would be."""
        allowed = (1.0 - self.coverage) * float(self.tracked.weights.sum()) - self.left_out
        work = [self._n_features(below) * (below + 1) for below in range(layer + 1)]
        return allowed * work[-1] / max(1, sum(work))

    def _n_features(self, layer: int) -> int:
        found = self.layout.layer_features(layer)
        return found.stop - found.start

    def take(self, nodes: Int[Tensor, " row"], weights: Float[Tensor, "node row"], bias: Float[Tensor, " row"]) -> None:
        """Account for complete rows."""
        first_error, first_token = self.layout.first_error, self.layout.first_token
        absolute, places = weights.abs(), nodes.to(weights.device)
        sums = self.tracked.add(places, absolute)
        self.error_share[places] = absolute[first_error:first_token].sum(0) / sums
        self.row_bias[places] = bias
        self.has_row[nodes[nodes < self.layout.n_features]] = True
        self.kept.add(int(self.layout.layers()[nodes[0]]), nodes, weights)

    def accounted(self, wanted: Bool[Tensor, " node"] | None) -> Accounted:
        """What the rows come to, with the edges between nodes that are wanted (None: all); they are let go here."""
        edge_target, edge_source, edge_weight = self.kept.edges(wanted)
        return Accounted(
            edge_target=edge_target,
            edge_source=edge_source,
            edge_weight=edge_weight,
            has_row=self.has_row,
            row_bias=self.row_bias.cpu(),
            error_share=self.error_share.cpu(),
            node_mask=torch.ones(self.layout.n_nodes, dtype=torch.bool) if wanted is None else wanted,
            influence=self.tracked.influence.float().cpu(),
            uncovered_influence=self.uncovered_influence,
        )


def compute_rows(
    prompts: Sequence[PromptRows],
    rows_of: RowsOf,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Rows of all targets and of as many features as each prompt's coverage and cap ask for; `prompts` take them.

    Args:
        prompts: the prompts of one pass.
        rows_of: computes rows.
        progress: called with feature rows done and feature rows there are, after every layer.
    """
    n_features = sum(prompt.layout.n_features for prompt in prompts)

    def of_each(chosen: Callable[[PromptRows], Tensor]) -> Iterable[NodeRows]:
        wanted = [(idx, chosen(prompt)) for idx, prompt in enumerate(prompts)]
        requests = [(idx, nodes) for idx, nodes in wanted if len(nodes)]
        return rows_of(requests) if requests else ()

    for idx, nodes, weights, bias in of_each(_targets):
        prompts[idx].take(nodes, weights, bias)
    for layer in reversed(range(max(prompt.layout.n_layers for prompt in prompts))):
        for idx, nodes, weights, bias in of_each(partial(PromptRows.choose, layer=layer)):
            prompts[idx].take(nodes, weights, bias)
            del weights  # or they would be held while the next ones are computed
        if progress is not None:
            progress(sum(int(prompt.has_row.sum()) for prompt in prompts), n_features)


def _targets(prompt: PromptRows) -> Int[Tensor, " target"]:
    return torch.arange(prompt.layout.first_target, prompt.layout.n_nodes)
