"""Swaps between two prompts: take some features of one out, put those of the other in, and see whose answer comes.

A circuit is right when swapping its features flips the answer and swapping as many others does not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tracer.graph.graph import Graph
from tracer.graph.layout import NodeLayout
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import intervene
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A share of trials, with its 95 % Wilson interval (Wilson 1927)."""

    n_hits: int
    n_trials: int

    @property
    def share(self) -> float:
        """Hits over trials; not a number without trials."""
        return self.n_hits / self.n_trials if self.n_trials else math.nan

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Lower and upper bound."""
        if not self.n_trials:
            return (0.0, 1.0)
        n, share = self.n_trials, self.share
        centre = share + z * z / (2 * n)
        spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
        low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
        return (max(0.0, low), min(1.0, high))

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.share:.3f} [{low:.3f}, {high:.3f}] ({self.n_hits} of {self.n_trials})"


def most_influential(graph: Graph, n_features: int, *, layer: int | None = None) -> list[int]:
    """Feature nodes by influence, strongest first; of one layer where given."""
    reach = graph.influence[: graph.layout.n_features]
    order = reach.argsort(descending=True, stable=True).tolist()
    layers = graph.layout.features[:, 0].tolist()
    return [node for node in order if layer is None or layers[node] == layer][:n_features]


def matched_random(graph: Graph, like: Sequence[int], n_features: int, rng: Random) -> list[int]:
    """Random feature nodes outside `like` whose activations resemble theirs.

    For each of `like` in turn, one of the five unused nodes nearest in activation is drawn, until there are
    `n_features`.
    """
    values = graph.activations.tolist()
    unused = [node for node in range(graph.layout.n_features) if node not in set(like)]
    chosen: list[int] = []
    while unused and like and len(chosen) < n_features:
        reference = values[like[len(chosen) % len(like)]]
        nearest = sorted(unused, key=lambda node: abs(values[node] - reference))[:5]
        chosen.append(rng.choice(nearest))
        unused.remove(chosen[-1])
    return chosen


def _edit(layout: NodeLayout, node: int, value: float) -> Edit:
    layer, pos, feature = layout.features[node].tolist()
    return Edit(layer=layer, pos=pos, feature=feature, value=value)


def swap_edits(base: Graph, base_nodes: Sequence[int], donor: Graph, donor_nodes: Sequence[int]) -> list[Edit]:
    """Set `base_nodes` to zero and `donor_nodes` to their activations in the donor; the donor's win where both name
    one.
    """
    edits = {tuple(base.layout.features[node].tolist()): _edit(base.layout, node, 0.0) for node in base_nodes}
    for node in donor_nodes:
        edits[tuple(donor.layout.features[node].tolist())] = _edit(donor.layout, node, float(donor.activations[node]))
    return list(edits.values())


def ablation_edits(graph: Graph, nodes: Sequence[int]) -> list[Edit]:
    """Set feature nodes to zero."""
    return [_edit(graph.layout, node, 0.0) for node in nodes]


def answer_after(model: ReplacementModel, unedited: Forward, edits: Sequence[Edit]) -> int:
    """The likeliest next token after edits, attention frozen."""
    return int(intervene(unedited.token_ids, model, edits, unedited=unedited).logits[-1].argmax())
