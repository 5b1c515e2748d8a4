"""Every row of small prompts side by side, and what the rows come to: influence, shares of errors, edges.

Small prompts cost calls rather than arithmetic. What `schedule.py` does for one prompt at a time, choosing rows layer
by layer, is not worth its calls there: all rows are computed, for many prompts in the same calls, and held dense.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from tracer.attribution.accounted import Accounted, target_weights
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.joined import Joined
from tracer.attribution.prepared import Prepared
from tracer.attribution.reads import Reads, feature_reads, joined
from tracer.attribution.sources import Sources
from tracer.graph.influence import DescendingInfluence
from tracer.graph.pruning import largest

N_COPIES = 3
"""Tensors of the size of all rows that are alive at once: the rows, what is made of them, what is kept."""
BLOCKS_OF_A_STEP = 6
"""A layer of a sweep costs calls like so many blocks of positions; measured."""
MAX_RATIO = 1.5
"""Nodes, or positions, of a prompt over those of the smallest one beside it: beyond, padding costs more than calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsTogether:
    """Some rows of each of several prompts, source by source. Each prompt's nodes have their own numbers; one number
    more stands for no row, where a prompt has fewer.
    """

    nodes: Int[Tensor, "prompt row"]
    layers: Int[Tensor, "prompt row"]
    weights: Float[Tensor, "prompt source row"]
    bias: Float[Tensor, "prompt row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows to compute: their reads, nodes and layers."""

    reads: Reads
    nodes: Int[Tensor, " row"]
    layers: Int[Tensor, " row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """Edges of all prompts by prompt, then target, then source."""

    counts: list[int]
    target: Int[Tensor, " edge"]
    source: Int[Tensor, " edge"]
    weight: Float[Tensor, " edge"]


def side_by_side(prompts: Sequence[Prepared], which: Sequence[int], budget_bytes: int) -> Iterator[list[int]]:
    """Indices of prompts of like size, as many together as their rows fit in a budget."""
    together: list[int] = []
    for idx in sorted(which, key=lambda idx: (prompts[idx].n_ignored, prompts[idx].layout.n_nodes)):
        beside = [*together, idx]
        n_bytes = len(beside) * max(room_for(prompts[other]) for other in beside)
        if together and (n_bytes > budget_bytes or not _are_alike(prompts[together[0]], prompts[idx])):
            yield together
            beside = [idx]
        together = beside
    if together:
        yield together


def room_for(prepared: Prepared) -> int:
    """Bytes that every row of a prompt takes."""
    layout = prepared.layout
    return 4 * N_COPIES * layout.n_nodes * (layout.n_features + layout.n_targets)


def _are_alike(smaller: Prepared, larger: Prepared) -> bool:
    shorter, longer = sorted((smaller.layout.n_pos, larger.layout.n_pos))
    return (
        smaller.n_ignored == larger.n_ignored
        and larger.layout.n_nodes <= MAX_RATIO * smaller.layout.n_nodes
        and longer <= MAX_RATIO * shorter
    )


def account_together(engine: ExplicitEngine, node_threshold: float | None) -> list[Accounted]:
    """Every row of prompts side by side, and what they come to.

    Args:
        engine: an engine of these prompts side by side.
        node_threshold: where given, only edges between nodes that pruning keeps are made; else all.
    """
    (sources,) = engine.sources
    together, prompts = sources.joined, sources.joined.prompts
    blocks = list(_every_row(engine, sources))
    is_error = _masks([slice(each.layout.first_error, each.layout.first_token) for each in prompts], together)
    weights = pad_sequence([target_weights(prepared) for prepared in prompts], batch_first=True)
    tracked = DescendingInfluence(pad(weights, (0, 2)))
    error_share, row_bias = torch.zeros_like(is_error), torch.zeros_like(is_error)
    for layer, block, flows in _from_the_top(blocks):
        absolute = block.weights.abs()
        sums = tracked.add(block.nodes, absolute, flows)
        if layer == int(block.layers.max()):
            error_share.scatter_(1, block.nodes, (is_error[:, None, :-2] @ absolute)[:, 0] / sums)
            row_bias.scatter_(1, block.nodes, block.bias)
    influence, wanted = tracked.influence.float(), None
    if node_threshold is not None:
        always = _masks([slice(each.layout.first_token, each.layout.n_nodes) for each in prompts], together)
        wanted = largest(influence, node_threshold) | always.bool()
    edges = _edges(blocks, wanted)
    if wanted is None:
        wanted = torch.ones_like(is_error, dtype=torch.bool)
    return _split(prompts, edges, row_bias, error_share, wanted, influence)


def _masks(ranges: Sequence[slice], joined_prompts: Joined) -> Float[Tensor, "prompt node"]:
    """One at the nodes of a range of each prompt, zero elsewhere."""
    bounds = torch.tensor([[nodes.start, nodes.stop] for nodes in ranges], device=joined_prompts.errors.device)
    nodes = torch.arange(joined_prompts.stride, device=bounds.device)
    return ((nodes >= bounds[:, :1]) & (nodes < bounds[:, 1:])).to(joined_prompts.errors.dtype)


def _from_the_top(blocks: Sequence[RowsTogether]) -> Iterator[tuple[int, RowsTogether, Bool[Tensor, "prompt row"]]]:
    """Layer, block, and the rows of the block that are of this layer, in the order influence flows."""
    parts = [(layer, block) for block in blocks for layer in block.layers.unique().tolist()]
    for layer, block in sorted(parts, key=lambda part: -part[0]):
        yield layer, block, block.layers == layer


def _every_row(engine: ExplicitEngine, sources: Sources) -> Iterator[RowsTogether]:
    """Rows of all features and targets: in one sweep where that is little work, else layer by layer.

    One sweep carries the rows of low layers along before they read, which costs arithmetic, and saves calls.
    """
    together, model = sources.joined, engine.model
    parts = [_targets(together)]
    for layer, (active, nodes) in enumerate(zip(together.active, together.active_nodes, strict=True)):
        reads = feature_reads(model, together.forward, layer, active.pos, active.feature)
        parts.append(Part(reads=reads, nodes=nodes % together.stride, layers=torch.full_like(nodes, layer)))
    n_seen = sum(int((part.reads.pos // sources.n_prompts + 1).sum()) for part in parts)
    if n_seen <= BLOCKS_OF_A_STEP * model.n_layers * engine.worth_a_block:
        parts = [_one_part(parts)]
    for part in parts:
        for block in engine.blocks([(sources, part.reads)]) if part.reads.n_rows else ():
            rows = block.rows.to(part.nodes.device)
            layers = torch.where(rows >= 0, part.layers[rows], int(part.layers[0]))
            nodes = torch.where(rows >= 0, part.nodes[rows], together.stride - 1)
            yield RowsTogether(nodes=nodes, layers=layers, weights=block.weights, bias=block.bias)


def _targets(together: Joined) -> Part:
    """The rows of the targets of all prompts."""
    parts = [prepared.targets.reads for prepared in together.prompts]
    reads, device = joined(parts), together.errors.device
    prompt = torch.arange(len(parts)).repeat_interleave(torch.tensor([len(part.row) for part in parts])).to(device)
    nodes = [torch.arange(each.layout.first_target, each.layout.n_nodes) for each in together.prompts]
    return Part(
        reads=replace(reads, pos=reads.pos * len(parts) + prompt),
        nodes=torch.cat(nodes).to(device),
        layers=torch.full((reads.n_rows,), len(together.active), device=device),
    )


def _one_part(parts: Sequence[Part]) -> Part:
    return Part(
        reads=joined([part.reads for part in parts]),
        nodes=torch.cat([part.nodes for part in parts]),
        layers=torch.cat([part.layers for part in parts]),
    )


def _edges(blocks: Sequence[RowsTogether], wanted: Bool[Tensor, "prompt node"] | None) -> Edges:
    """The edges that are not zero; both ends in `wanted` where it is given."""
    keys, weights = [], []
    n_prompts, n_nodes = blocks[0].nodes.shape[0], blocks[0].weights.shape[1] + 2
    for block in blocks:
        held = block.weights != 0
        if wanted is not None:
            held &= wanted[:, :-2, None] & wanted.gather(1, block.nodes)[:, None]
        prompt, source, row = held.nonzero(as_tuple=True)
        keys.append((prompt * n_nodes + block.nodes[prompt, row]) * n_nodes + source)
        weights.append(block.weights[prompt, source, row])
    key, order = torch.cat(keys).sort()
    target = key // n_nodes
    return Edges(
        counts=torch.bincount(target // n_nodes, minlength=n_prompts).tolist(),
        target=(target % n_nodes).int().cpu(),
        source=(key % n_nodes).int().cpu(),
        weight=torch.cat(weights)[order].cpu(),
    )


def _split(
    prompts: Sequence[Prepared],
    edges: Edges,
    row_bias: Float[Tensor, "prompt node"],
    error_share: Float[Tensor, "prompt node"],
    wanted: Bool[Tensor, "prompt node"],
    influence: Float[Tensor, "prompt node"],
) -> list[Accounted]:
    """Each prompt's part, copied: none keeps the others' memory."""
    edge_parts = [part.split(edges.counts) for part in (edges.target, edges.source, edges.weight)]
    node_parts = [part.cpu() for part in (row_bias, error_share, wanted, influence)]
    found = []
    for idx, prepared in enumerate(prompts):
        target, source, weight = (part[idx].clone() for part in edge_parts)
        bias, share, mask, reach = (part[idx, : prepared.layout.n_nodes].clone() for part in node_parts)
        found.append(
            Accounted(
                edge_target=target, edge_source=source, edge_weight=weight, row_bias=bias, error_share=share,
                node_mask=mask, influence=reach, uncovered_influence=0.0,
                has_row=torch.ones(prepared.layout.n_features, dtype=torch.bool),
            )
        )  # fmt: skip
    return found
