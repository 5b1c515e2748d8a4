"""Sources on their way up the layers, and what targets read of them behind each head and skip connection.

The frozen map forwards, for some sources at once and from the first of their positions on. Wherever a head or a skip
connection adds to the stream, targets above read what it adds at their own positions.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution import frozen_map
from tracer.attribution.prepared import Prepared
from tracer.attribution.reads import Reads, mlp_stage
from tracer.graph.layout import NodeKind
from tracer.model.replacement import ReplacementModel


class Crossings:
    """What the rows of some reads owe to some sources, by the last crossing; sources must be sorted."""

    def __init__(
        self, model: ReplacementModel, prepared: Prepared, reads: Reads, sources: Int[Tensor, " source"]
    ) -> None:
        self.model, self.prepared, self.reads, self.sources = model, prepared, reads, sources
        self.kinds, self.layers = prepared.layout.kinds()[sources], prepared.layout.layers()[sources]
        self.pos = source_positions(prepared, sources)
        self.first = int(self.pos.min())
        forward, shape = prepared.forward, (reads.n_rows, len(sources))
        self.streams = forward.embedding.new_zeros(len(sources), forward.n_pos - self.first, forward.embedding.shape[1])
        self.residual: Float[Tensor, "row source"] = self.streams.new_zeros(shape)
        self.heads: Float[Tensor, "row source layer head"] = self.streams.new_zeros(
            *shape, model.n_layers, forward.patterns.shape[1]
        )
        self.skips: Float[Tensor, "row source layer"] = self.streams.new_zeros(*shape, model.n_layers)
        self.counts: Float[Tensor, "row source"] = self.streams.new_zeros(shape)
        """How much each edge counts in what heads carry."""

    def run(self, carried: Float[Tensor, "layer head query key"] | None) -> None:
        """Push the sources up as far as any target reads; add what heads carry to `carried` where it is wanted."""
        last = int(self.reads.stage.max())
        tokens = (self.kinds == NodeKind.token).nonzero().flatten()
        self._write(tokens, self.prepared.forward.embedding[self.pos[tokens]], stage=0)
        for layer in range((last + 1) // 2):
            entered = self.streams
            self.streams = entered + self._attention(layer, entered, carried)
            if 2 * layer + 2 <= last:
                parallel = mlp_stage(self.model, layer) == 2 * layer
                if self.model.transcoders.layers[layer].W_skip is not None:
                    self.streams = self.streams + self._skip(layer, entered if parallel else self.streams)
                self._write(*self._written(layer), stage=2 * layer + 2)

    def _readers(self, stage: int) -> Int[Tensor, " read"]:
        """Reads at a stage or above, of positions that a source can reach."""
        return ((self.reads.stage[self.reads.row] >= stage) & (self.reads.pos >= self.first)).nonzero().flatten()

    def _write(self, source: Int[Tensor, " write"], vectors: Float[Tensor, "write d_model"], *, stage: int) -> None:
        """Add what sources write into the stream in front of a stage, which targets also read directly."""
        source, pos = source.to(vectors.device), self.pos.to(vectors.device)[source]
        self.streams.index_put_((source, pos - self.first), vectors, accumulate=True)
        readers = self._readers(stage)
        seen = (self.reads.vectors[readers] @ vectors.T) * (self.reads.pos[readers, None] == pos)
        self.residual.index_put_((self.reads.row[readers, None], source[None]), seen, accumulate=True)

    def _attention(self, layer: int, streams: Float[Tensor, "source pos d_model"], carried: Tensor | None) -> Tensor:
        forward, weights = self.prepared.forward, self.model.weights.layers[layer]
        W_V, W_O = weights.W_V.flatten(0, 1), weights.W_O.flatten(0, 1)
        n_heads, d_head, _ = weights.W_O.shape
        pattern = forward.patterns[layer] / frozen_map.attention_divisors(forward, layer)[0]
        pattern = pattern[:, self.first :, self.first :]
        values = (streams @ W_V.T).unflatten(2, (-1, d_head)).permute(2, 1, 0, 3)
        values = values.repeat_interleave(n_heads // len(values), dim=0)
        readers = self._readers(2 * layer + 1)
        row, pos = self.reads.row[readers], self.reads.pos[readers]
        outputs = (self.reads.vectors[readers] @ W_O.T).unflatten(1, (n_heads, d_head)).transpose(0, 1)
        parts = torch.bmm(outputs, values.flatten(1, 2).transpose(1, 2)).unflatten(2, values.shape[1:3])
        parts *= pattern[:, pos - self.first][..., None]
        self.heads[:, :, layer].index_add_(0, row, parts.sum(2).permute(1, 2, 0))
        if carried is not None:
            counted = torch.einsum("hrkj,rj->hrk", parts.abs_(), self.counts[row])
            carried[layer, :, :, self.first :].index_add_(1, pos, counted)
        mixed = torch.bmm(pattern, values.flatten(2)).unflatten(2, values.shape[2:])
        return mixed.permute(2, 1, 0, 3).flatten(2) @ W_O

    def _skip(self, layer: int, streams: Float[Tensor, "source pos d_model"]) -> Tensor:
        every = torch.arange(self.first, self.first + streams.shape[1], device=streams.device)
        passed = frozen_map.push_skip(self.model, self.prepared.forward, layer, every, streams)
        readers = self._readers(2 * layer + 2)
        at_reader = passed[:, self.reads.pos[readers] - self.first]
        parts = torch.einsum("rd,jrd->rj", self.reads.vectors[readers], at_reader)
        self.skips[:, :, layer].index_add_(0, self.reads.row[readers], parts)
        return passed

    def _written(self, layer: int) -> tuple[Int[Tensor, " write"], Float[Tensor, "write d_model"]]:
        """What the sources write into a layer's MLP output, as it enters the stream."""
        prepared, layout = self.prepared, self.prepared.layout
        device = prepared.errors.device
        places = [((self.kinds == NodeKind.error) & (self.layers == layer)).nonzero().flatten()]
        vectors = [prepared.errors[layer, self.pos[places[0]]]]
        for below in range(layer + 1) if self.model.transcoders.cross_layer else (layer,):
            found = ((self.kinds == NodeKind.feature) & (self.layers == below)).nonzero().flatten()
            nodes = self.sources[found]
            feature = layout.features[nodes, 2].to(device)
            rows = self.model.transcoders.layers[below].decoder_rows(feature, layer - below)
            places.append(found)
            vectors.append(rows * prepared.activations[nodes.to(device), None])
        place = torch.cat(places)
        factors = frozen_map.write_factors(self.model, prepared.forward, layer)[self.pos[place].to(device)]
        return place, torch.cat(vectors) * factors


def source_positions(prepared: Prepared, sources: Int[Tensor, " source"]) -> Int[Tensor, " source"]:
    """The position of each source."""
    none = torch.zeros(prepared.layout.n_targets, dtype=torch.long)
    return prepared.layout.positions(none)[sources]
