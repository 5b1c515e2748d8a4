"""Rows of a prompt by meeting in the middle: low sources pushed up, high targets pulled down, one product.

Pulling a row down costs as many layers as lie below it, so most of the work of computing every row is spent on carrying
high rows through low layers. When most low rows are wanted, carrying the low layers' sources up to a middle stage costs
half of that, gives the low rows on the way, and the edges across the middle are one matrix product a position.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution import frozen_map
from tracer.attribution.ascent import Ascent, SourceVectors
from tracer.attribution.columns import rising_span
from tracer.attribution.descent import Cohort
from tracer.attribution.known_streams import known_streams
from tracer.attribution.precision import Precision
from tracer.attribution.reads import Reads
from tracer.attribution.row_shares import layer_shares, rows_share
from tracer.attribution.sources import Sources

LEAST_GAIN = 0.8
"""Of the work of pulling every row down, what meeting must come to at most to be worth its own small operations."""


class Meeting:
    """The sources below layer `n_lower` of one prompt, pushed up to the stream in front of that layer."""

    def __init__(
        self,
        sources: Sources,
        n_lower: int,
        *,
        max_columns: int,
        max_rows: int,
        worth_a_block: float,
        precision: Precision,
    ) -> None:
        self.sources = sources
        layout = sources.prepared.layout
        n_features = layout.layer_features(n_lower - 1).stop
        batches = [source_vectors(sources, layer) for layer in range(-1, n_lower)]
        pos = torch.cat([batch.pos for batch in batches])
        order = pos.argsort(stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        self.nodes: Int[Tensor, " source"] = torch.cat([batch.nodes for batch in batches])[order]
        self.met_nodes = torch.cat([sources.ignored_nodes[:, 0], self.nodes])
        self.known = known_streams(sources.model, sources.prepared.forward, sources.n_ignored, layout.n_pos, n_lower)
        self.edges: Float[Tensor, "feature source"] = self.known[0].new_zeros(n_features, len(order))
        self.streams = self._known_first(torch.bincount(pos, minlength=sources.n_pos).cumsum(0).tolist())
        first = 0
        for batch in batches:
            places = place[first : first + len(batch.pos)]
            first += len(batch.pos)
            n_parts = max(-(-len(batch.pos) * (sources.n_pos + 1) // (2 * max_columns)), -(-len(batch.pos) // max_rows))
            for some in batch.pos.argsort(stable=True).chunk(max(1, n_parts)):
                self._push(batch.some(some), places[some], n_lower, worth_a_block, precision)

    def _push(
        self,
        batch: SourceVectors,
        places: Int[Tensor, " source"],
        n_lower: int,
        worth_a_block: float,
        precision: Precision,
    ) -> None:
        """Push sources up; their streams and edges go to `places` among all sources."""
        sources = self.sources
        span = rising_span(batch.pos.cpu(), sources.n_pos, worth_a_block)
        ascent = Ascent(sources, batch, span, precision)
        found = batch.vectors.new_zeros(sources.prepared.layout.n_nodes + 2, len(batch.pos))
        ascent.rise(n_lower, found)
        places = places[span.rows.to(places.device)]
        self.edges.index_copy_(1, places, found[: len(self.edges)])
        for pos, stream in enumerate(self.streams):
            seen = ascent.at_position(pos)
            stream[len(sources.ignored_nodes) + places[: len(seen)]] = seen

    def _known_first(self, n_seen: list[int]) -> list[Float[Tensor, "part d_model"]]:
        """Per position, room for what each source that it sees brought, after what is known beforehand."""
        known = self.known[-1][:, self.sources.n_ignored :]
        streams = [known.new_zeros(len(known) + n, known.shape[-1]) for n in n_seen]
        for pos, stream in enumerate(streams):
            stream[: len(known)] = known[:, pos]
        return streams

    def low_rows(
        self, nodes: Int[Tensor, " row"], reads: Reads
    ) -> tuple[Float[Tensor, "node row"], Float[Tensor, " row"]]:
        """Rows of feature nodes below the middle, whose reads are given, and what they owe to no node.

        Rows come from the top down, so the streams are let go here: who meets after all pulls down all the way.
        """
        self.streams = []
        layout, ignored = self.sources.prepared.layout, self.sources.ignored_nodes[:, 0]
        rows = reads.vectors.new_zeros(layout.n_nodes + 1, len(nodes))
        rows.index_copy_(0, self.nodes, self.edges.index_select(0, nodes.to(self.edges.device)).T)
        for stage in reads.stage.unique().tolist():
            which = (reads.stage == stage).nonzero().flatten()
            known = self.known[stage][:, reads.pos[which]] * reads.vectors[which]
            rows[ignored[:, None], which[None]] += known.sum(-1)
        return rows[:-1], rows[-1] + reads.bias

    def meet(self, cohort: Cohort, columns: Float[Tensor, "column d_model"]) -> None:
        """Add the edges of rows that have come down to the middle from all that is below."""
        edges = columns.new_zeros(len(self.met_nodes), len(cohort.span.rows))
        for block in cohort.span.blocks:
            for place, vectors in zip(
                range(block.first_pos, block.positions.stop), cohort.part(columns, block), strict=True
            ):
                streams = self.streams[place]
                edges[: len(streams), : block.n_rows].addmm_(streams, vectors.T)
        cohort.found.index_add_(0, self.met_nodes, edges)


def source_vectors(sources: Sources, layer: int) -> SourceVectors:
    """What the features and errors of a layer write behind its MLP; -1: the token embeddings."""
    prepared, first = sources.prepared, sources.n_ignored
    layout, device = prepared.layout, prepared.errors.device
    every = torch.arange(sources.n_pos, device=device)
    if layer < 0:
        nodes = every + (layout.first_token + first)
        return SourceVectors(layer=-1, nodes=nodes, pos=every, vectors=prepared.forward.embedding[first:])
    active, found = prepared.active[layer], layout.layer_features(layer)
    rows = sources.model.transcoders.layers[layer].decoder_rows(active.feature, 0) * active.value[:, None]
    pos = torch.cat([active.pos - first, every])
    factors = frozen_map.write_factors(sources.model, prepared.forward, layer)[first:]
    vectors = torch.cat([rows, prepared.errors[layer, first:]]) * factors[pos]
    errors = every + (layout.errors(layer).start + first)
    nodes = torch.cat([torch.arange(found.start, found.stop, device=device), errors])
    return SourceVectors(layer=layer, nodes=nodes, pos=pos, vectors=vectors)


def best_middle(prompts: Sequence[Sources], coverage: float, budget_bytes: int) -> int:
    """The number of lower layers with the least work in all; 0 where pulling every row down is about as cheap.

    Work is counted in vectors that pass a layer; what would not fit in the budget is not considered. Every source of
    the lower layers is pushed up, whatever the coverage, but only some of the rows above would be pulled down.
    """
    n_layers = prompts[0].model.n_layers
    shares = layer_shares(rows_share(coverage), n_layers)
    best, least = 0, LEAST_GAIN * sum(_work(sources, shares, 0) for sources in prompts)
    for n_lower in range(1, n_layers):
        work = sum(_work(sources, shares, n_lower) for sources in prompts)
        if work < least and sum(_held_bytes(sources, n_lower) for sources in prompts) <= budget_bytes:
            best, least = n_lower, work
    return best


def _n_features(sources: Sources) -> list[int]:
    return [len(active.pos) for active in sources.prepared.active]


def _work(sources: Sources, shares: Sequence[float], n_lower: int) -> float:
    n_features, n_pos = _n_features(sources), sources.n_pos
    n_layers = len(n_features)
    pulled = sum((layer - n_lower + 0.5) * shares[layer] * n_features[layer] for layer in range(n_lower, n_layers))
    pushed = sum((n_lower - layer - 0.5) * (n_features[layer] + n_pos) for layer in range(n_lower)) + n_lower * n_pos
    return pulled + sources.prepared.layout.n_targets * (n_layers - n_lower) + pushed


def _held_bytes(sources: Sources, n_lower: int) -> int:
    n_features, n_pos = sum(_n_features(sources)[:n_lower]), sources.n_pos
    n_sources = n_features + (n_lower + 1) * n_pos
    return 4 * n_sources * (n_pos * sources.prepared.errors.shape[-1] + 2 * n_features)
