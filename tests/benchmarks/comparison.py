"""How far two graphs of one prompt agree: adjacency row by row, influence, kept nodes and edges, scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file
from torch import Tensor

MAX_ROW_DIFFERENCE = 1e-4
N_PART_ROWS = 1024
NEAR_CUT = 1e-5
"""Elements whose cumulative share is this close to a threshold may fall on either side of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Differences between tracer's graph and circuit-tracer's, on the nodes that both have."""

    n_features: tuple[int, int]
    n_shared_features: int
    """A feature that is active on one side alone has a pre-activation of zero to rounding."""
    worst_row: float
    """Over all rows: the largest absolute difference over the row's largest absolute entry."""
    worst_influence: float
    """Largest difference of an influence, over the largest influence."""
    worst_score: float
    """Largest difference of the replacement and the completeness score."""
    scores: tuple[float, float]
    n_kept: tuple[int, int]
    n_kept_edges: tuple[int, int]
    near_cut: list[str]
    """Nodes and edges kept by one side alone that are near a cut, or dangle because one that is was dropped."""
    apart: list[str]
    """Nodes and edges kept by one side alone without that excuse."""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs beyond rounding."""
        worst = max(self.worst_row, self.worst_influence, self.worst_score)
        return worst <= MAX_ROW_DIFFERENCE and not self.apart


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """What one side saved, on the nodes that both have."""

    adjacency: Float[Tensor, "node node"]
    influence: Float[Tensor, " node"]
    nodes: Bool[Tensor, " node"]
    edges: Bool[Tensor, "node node"]


def compare(ours_path: Path, theirs_path: Path, *, node_threshold: float, edge_threshold: float) -> Agreement:
    """Compare the graphs that both sides saved."""
    ours, theirs = load_file(ours_path), load_file(theirs_path)
    assert ours["target_ids"].tolist() == theirs["target_ids"].tolist(), "the sides chose other targets"
    n_features, n_targets = len(ours["active_features"]), len(ours["target_ids"])
    n_rest = len(ours["node_mask"]) - n_features
    here, there = _shared_features(ours["active_features"], theirs["active_features"])
    n_shared = len(here)
    ours_side, theirs_side = _side(ours, here, n_rest), _side(theirs, there, n_rest)
    weights = torch.zeros(n_shared + n_rest, dtype=torch.float64)
    weights[-n_targets:] = theirs["target_weights"].double()
    always = weights > 0
    always[-n_targets - int(ours["n_pos"]) :] = True
    node_close = _near_cut(theirs_side.influence, node_threshold)
    first_kept = (theirs_side.influence >= _cut(theirs_side.influence, node_threshold)) | always
    edge_close = _near_cut(_edge_scores(theirs_side.adjacency, first_kept, weights), edge_threshold)
    near_cut, apart = _differing(ours_side, theirs_side, node_close, edge_close)
    return Agreement(
        n_features=(n_features, len(theirs["active_features"])),
        n_shared_features=n_shared,
        worst_row=worst_row(ours_side.adjacency, theirs_side.adjacency),
        worst_influence=float((ours_side.influence - theirs_side.influence).abs().max() / theirs_side.influence.max()),
        worst_score=float((ours["scores"] - theirs["scores"]).abs().max()),
        scores=tuple(ours["scores"].tolist()),
        n_kept=(int(ours_side.nodes.sum()), int(theirs_side.nodes.sum())),
        n_kept_edges=(int(ours_side.edges.sum()), int(theirs_side.edges.sum())),
        near_cut=near_cut,
        apart=apart,
    )


def _side(saved: dict[str, Tensor], shared_features: Tensor, n_rest: int) -> _Side:
    n_features = len(saved["active_features"])
    shared = torch.cat([shared_features, n_features + torch.arange(n_rest)])
    adjacency = saved["adjacency"][shared][:, shared].float()
    edges = saved["edge_mask"][shared][:, shared] & (adjacency != 0)
    return _Side(
        adjacency=adjacency, influence=saved["influence"][shared].float(), nodes=saved["node_mask"][shared], edges=edges
    )


def _shared_features(
    ours: Int[Tensor, "feature 3"], theirs: Int[Tensor, "other 3"]
) -> tuple[Int[Tensor, " shared"], Int[Tensor, " shared"]]:
    places = {tuple(feature): idx for idx, feature in enumerate(theirs.tolist())}
    both = [(idx, places[tuple(feature)]) for idx, feature in enumerate(ours.tolist()) if tuple(feature) in places]
    here, there = torch.tensor(both, dtype=torch.long).T
    return here, there


def worst_row_of(ours_path: Path, theirs_path: Path) -> float:
    """`worst_row` of the adjacencies that both sides saved, a part at a time."""
    ours, theirs = load_file(ours_path), load_file(theirs_path)
    n_rest = len(ours["adjacency"]) - len(ours["active_features"])
    here, there = _shared_features(ours["active_features"], theirs["active_features"])
    here = torch.cat([here, len(ours["active_features"]) + torch.arange(n_rest)])
    there = torch.cat([there, len(theirs["active_features"]) + torch.arange(n_rest)])
    return max(
        worst_row(ours["adjacency"][rows][:, here].float(), theirs["adjacency"][other_rows][:, there].float())
        for rows, other_rows in zip(here.split(N_PART_ROWS), there.split(N_PART_ROWS), strict=True)
    )


def worst_row(ours: Float[Tensor, "row node"], theirs: Float[Tensor, "row node"]) -> float:
    """Over all rows: the largest absolute difference of an entry over the row's largest absolute entry."""
    largest = theirs.abs().amax(1).clamp_min(torch.finfo(theirs.dtype).tiny)
    return float(((ours - theirs).abs().amax(1) / largest).max())


def _cut(values: Float[Tensor, "*item"], threshold: float) -> float:
    """The value at which the descending cumulative share first reaches the threshold."""
    ordered = values.double().flatten().sort(descending=True).values
    reached = int((ordered.cumsum(0) / ordered.sum() < threshold).sum())
    return float(ordered[min(reached, len(ordered) - 1)])


def _near_cut(values: Float[Tensor, "*item"], threshold: float) -> Bool[Tensor, "*item"]:
    """Items whose share of the total, held by them and all larger ones, is close to the threshold."""
    ordered, order = values.double().flatten().sort(descending=True)
    close = ((ordered.cumsum(0) / ordered.sum() - threshold).abs() < NEAR_CUT) & (ordered > 0)
    return torch.zeros(values.numel(), dtype=torch.bool).scatter(0, order, close).view_as(values)


def _edge_scores(
    adjacency: Float[Tensor, "node node"], kept: Bool[Tensor, " node"], weights: Float[Tensor, " node"]
) -> Float[Tensor, "node node"]:
    """The values by which edges between kept nodes are ranked."""
    normalised = adjacency.double().abs() * kept[:, None] * kept
    normalised /= normalised.sum(1, keepdim=True).clamp_min(1e-10)
    reach = term = weights
    while bool((term := term @ normalised).any()):
        reach = reach + term
    return normalised * reach[:, None]


def _differing(ours: _Side, theirs: _Side, node_close: Tensor, edge_close: Tensor) -> tuple[list[str], list[str]]:
    """What one side alone keeps: near a cut, or dangling because of such an element; and without that excuse."""
    nodes, edges = ours.nodes != theirs.nodes, ours.edges != theirs.edges
    node_excused, edge_excused = nodes & node_close, edges & edge_close
    while True:
        n_before = int(node_excused.sum() + edge_excused.sum())
        node_excused = nodes & (node_excused | edge_excused.any(0) | edge_excused.any(1))
        edge_excused = edges & (edge_excused | node_excused[:, None] | node_excused)
        if int(node_excused.sum() + edge_excused.sum()) == n_before:
            break
    named = []
    for node_mask, edge_mask in ((node_excused, edge_excused), (nodes & ~node_excused, edges & ~edge_excused)):
        of_nodes = [f"node {idx}" for idx in node_mask.nonzero().flatten().tolist()]
        named.append(of_nodes + [f"edge {source} -> {target}" for target, source in edge_mask.nonzero().tolist()])
    return named[0], named[1]


def jaccard(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Size of the intersection of two sets over that of their union; 1 where both are empty."""
    here, there = set(ours), set(theirs)
    return len(here & there) / max(1, len(here | there)) if here or there else 1.0
