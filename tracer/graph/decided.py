"""What the node cut will say of the exact graph, known from a graph with only some rows.

With the rows at hand every computed influence is a lower bound. What is missing is carried by walks that were stopped
at a feature without a row; each goes on to strictly lower layers at the same or earlier positions, visits at most one
node of a layer, and may visit any node there. So with `u` the influence that sits on features without a row,

* the excess of one node is at most the `u` above it (higher layer, same or later position), and
* the excess of all nodes of one layer together is at most the `u` of the layers above.

The cut of `pruning.rank` keeps node `s` if and only if `S(s) = sum of influences larger than I[s] - threshold * sum of
all influences` is negative. `S` is bounded from both sides over every influence that the two statements allow; where
the sign is the same throughout, the node is decided.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tracer.graph.layout import NodeKind
from tracer.graph.pruning import check_threshold

if TYPE_CHECKING:
    from tracer.graph.graph import Graph

ROUNDING = 1e-5
"""Relative difference of two float32 runs of the same influence that may not change a verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What the node cut of the exact graph keeps and drops for certain; the rest is undecided.

    Of the node cut alone: a node that it keeps may still fall as dangling after the edge cut. Tokens and targets are
    always kept.
    """

    certainly_kept: Bool[Tensor, " node"]
    certainly_dropped: Bool[Tensor, " node"]
    share_decided: float
    """Share of the features and errors, on which alone the cut decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """How much larger the exact influences may be than the computed ones."""

    group: Int[Tensor, " node"]
    """0 for tokens, layer + 1 for features and errors, -1 for targets, which no influence reaches."""
    of_node: Float[Tensor, " node"]
    of_group: Float[Tensor, " group"]


def excess(graph: "Graph") -> Excess:
    """Bounds on what the rows that are missing may still add."""
    layout = graph.layout
    waiting = torch.where(graph.has_row, 0.0, graph.influence[: layout.n_features].double())
    by_place = torch.zeros(layout.n_layers + 1, layout.n_pos, dtype=torch.float64)
    by_place.index_put_((layout.features[:, 0], layout.features[:, 1]), waiting, accumulate=True)
    # Row `layer + 1` sums the layers above `layer`, column `pos` the positions from `pos` on.
    above = by_place.flip(0, 1).cumsum(0).cumsum(1).flip(0, 1)
    is_target = layout.is_kind(NodeKind.logit)
    group = torch.where(is_target, -1, layout.layers() + 1)
    pos = layout.positions(torch.zeros(layout.n_targets, dtype=torch.long))
    return Excess(group=group, of_node=torch.where(is_target, 0.0, above[group, pos]), of_group=above[:, 0])


def decide(graph: "Graph", node_threshold: float) -> Decided:
    """Verdicts on all nodes, pruned before or not, for the cut that `prune` makes at `node_threshold`.

    Raises:
        ConfigError: the threshold is outside [0, 1].
    """
    check_threshold(node_threshold)
    least, bounds = graph.influence.double(), excess(graph)
    most = least + bounds.of_node
    total = least.sum()
    from_below, from_above = least * (1 - ROUNDING), most * (1 + ROUNDING)
    # Every node is among the larger ones of its own `from_below`, and must not be.
    largest = -least - node_threshold * total
    smallest = -node_threshold * total.expand_as(least)
    for idx, room in enumerate(bounds.of_group):
        members = (bounds.group == idx).nonzero().flatten()
        group = _Group.of(least[members], most[members], float(room))
        largest = largest + group.sum_above(from_below) + group.sum_promoted(from_below)
        largest = largest + (1 - node_threshold) * group.room
        smallest = smallest + group.sum_above(from_above) - node_threshold * group.room
    layout = graph.layout
    always = layout.is_kind(NodeKind.token) | layout.is_kind(NodeKind.logit)
    kept = always | (largest < -ROUNDING * total)
    dropped = ~always & (smallest > ROUNDING * total)
    n_open = int((~always).sum())
    n_decided = int(((kept | dropped) & ~always).sum())
    return Decided(certainly_kept=kept, certainly_dropped=dropped, share_decided=n_decided / n_open if n_open else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Nodes that share one allowance of excess, sorted by computed influence, with running sums from 0."""

    least: Float[Tensor, " member"]
    sums: Float[Tensor, " edge"]
    most: Float[Tensor, " member"]
    """Largest possible influences, sorted on their own."""
    sums_by_most: Float[Tensor, " edge"]
    """Running sums of the computed influences in the order of `most`."""
    room: float

    @classmethod
    def of(cls, least: Tensor, most: Tensor, room: float) -> "_Group":
        by_least, by_most = least.sort().values, most.argsort()
        room = min(room, float((most - least).sum()))
        return cls(
            least=by_least,
            sums=_running(by_least),
            most=most[by_most],
            sums_by_most=_running(least[by_most]),
            room=room,
        )

    def sum_above(self, values: Float[Tensor, " node"]) -> Float[Tensor, " node"]:
        """Sum of the computed influences that exceed each value."""
        return self.sums[-1] - self.sums[torch.searchsorted(self.least, values, right=True)]

    def sum_promoted(self, values: Float[Tensor, " node"]) -> Float[Tensor, " node"]:
        """The most that computed influences at or below each value may sum to once they have come to exceed it.

        Each by its own excess, and all of them within the group's: lifting those next below the value is cheapest.
        """
        n_below = torch.searchsorted(self.least, values, right=True)
        by_own_excess = self.sums_by_most[-1] - self.sums_by_most[torch.searchsorted(self.most, values)]
        by_own_excess = by_own_excess - self.sum_above(values)
        n_affordable, n_too_many = torch.zeros_like(n_below), n_below + 1
        while bool((n_too_many - n_affordable > 1).any()):
            middle = (n_affordable + n_too_many) // 2
            fits = self._price(values, n_below, middle) <= self.room
            n_affordable = torch.where(fits, middle, n_affordable)
            n_too_many = torch.where(fits, n_too_many, middle)
        by_groups_excess = self.sums[n_below] - self.sums[n_below - n_affordable]
        # Part of the next one, as in a fractional knapsack: no whole choice can do better.
        place = n_below - n_affordable - 1
        next_least = torch.where(place >= 0, self.least[place], 0.0)
        left = self.room - self._price(values, n_below, n_affordable)
        share = (left / (values - next_least).clamp_min(torch.finfo(torch.float64).tiny)).clamp(0.0, 1.0)
        return torch.minimum(by_own_excess, by_groups_excess + share * next_least)

    def _price(self, values: Tensor, n_below: Tensor, n_lifted: Tensor) -> Tensor:
        """Excess that lifts the `n_lifted` members next below each value up to it."""
        return n_lifted * values - (self.sums[n_below] - self.sums[n_below - n_lifted])


def _running(values: Float[Tensor, " member"]) -> Float[Tensor, " edge"]:
    return torch.cat([values.new_zeros(1), values.cumsum(0)])
