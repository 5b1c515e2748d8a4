"""What the sources of one layer wrote, on its way up to a stage: the frozen map forwards, for many sources at once.

The mirror of a descent: a source is seen at its own and later positions. On the way it meets what the features of the
layers it passes read, which gives their edges from it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution import frozen_map
from tracer.attribution.columns import Block, Span
from tracer.attribution.precision import Precision, product
from tracer.attribution.reads import feature_reads
from tracer.attribution.slots import Slots, contract, padded
from tracer.attribution.sources import Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceVectors:
    """Sources that write at one place, and what they write there, in stream coordinates."""

    layer: int
    """They write behind the MLP of this layer; -1: they are the stream in front of layer 0."""
    nodes: Int[Tensor, " source"]
    pos: Int[Tensor, " source"]
    """Counted from the first position that is not ignored."""
    vectors: Float[Tensor, "source d_model"]

    def some(self, which: Int[Tensor, " chosen"]) -> "SourceVectors":
        """Some of them."""
        return SourceVectors(
            layer=self.layer, nodes=self.nodes[which], pos=self.pos[which], vectors=self.vectors[which]
        )


class Ascent:
    """Vectors of some sources at the positions that see them; sources are sorted by position."""

    def __init__(self, sources: Sources, written: SourceVectors, span: Span, precision: Precision) -> None:
        self.sources, self.span, self.precision = sources, span, precision
        order = span.rows
        self.layer, self.nodes, self.pos = written.layer, written.nodes[order], written.pos[order]
        self.columns: Float[Tensor, "column d_model"] = written.vectors.new_zeros(
            span.n_columns, written.vectors.shape[1]
        )
        self._own = span.column_of(self.pos, torch.arange(len(order), device=self.pos.device))
        self.columns[self._own] = written.vectors[order]

    def rise(self, n_layers: int, found: Float[Tensor, "node_or_none source"]) -> None:
        """Go up to the stream in front of layer `n_layers`; edges to the features passed are added to `found`."""
        model = self.sources.model
        for layer in range(self.layer + 1, n_layers):
            if model.facts.parallel:
                self._meet_reads(layer, found)
                skipped = self._skip(layer)
                self._attention(layer)
            else:
                self._attention(layer)
                self._meet_reads(layer, found)
                skipped = self._skip(layer)
            if skipped is not None:
                self.columns += skipped
            self._write_again(layer)

    def at_position(self, place: int) -> Float[Tensor, "seen d_model"]:
        """The vectors at a position of those sources that it sees, which come first."""
        block = next(block for block in self.span.blocks if block.first_pos <= place < block.positions.stop)
        n_seen = int(torch.searchsorted(self.pos, place, right=True))
        return self._part(block)[place - block.first_pos, :n_seen]

    def _attention(self, layer: int) -> None:
        weights, shares = self.sources.model.weights.layers[layer], self.sources.mixing(layer)
        n_kv, d_head, _ = weights.W_V.shape
        n_group, first = shares.shape[2], self.sources.n_ignored
        mixing = shares[:, first:].permute(0, 2, 3, 1).flatten(1, 2)
        values = product(self.columns, weights.W_V.flatten(0, 1).T, self.precision)
        n_pos, n_rows = self.span.n_pos, len(self.nodes)
        keys = values.new_zeros(n_kv, n_pos, n_rows, d_head)
        for block in self.span.blocks:
            part = values[block.columns].view(block.n_pos, block.n_rows, n_kv, d_head)
            keys[:, block.positions, : block.n_rows] = part.permute(2, 0, 1, 3)
        del values
        mixed = torch.bmm(mixing, keys.flatten(2)).view(n_kv, n_group, n_pos, n_rows, d_head)
        del keys
        outputs = mixed.new_empty(len(self.columns), n_kv * n_group * d_head)
        for block in self.span.blocks:
            part = outputs[block.columns].view(block.n_pos, block.n_rows, n_kv, n_group, d_head)
            part.copy_(mixed[:, :, block.positions, : block.n_rows].permute(2, 3, 0, 1, 4))
        del mixed
        if self.precision == "float32":
            self.columns.addmm_(outputs, weights.W_O.flatten(0, 1))
        else:
            self.columns += product(outputs, weights.W_O.flatten(0, 1), self.precision)

    def _meet_reads(self, layer: int, found: Float[Tensor, "node_or_none source"]) -> None:
        contract(self.span, self.columns, read_slots(self.sources, layer), found)

    def _skip(self, layer: int) -> Float[Tensor, "column d_model"] | None:
        model, forward = self.sources.model, self.sources.prepared.forward
        if model.transcoders.layers[layer].W_skip is None:
            return None
        skipped = torch.empty_like(self.columns)
        for block in self.span.blocks:
            first = self.sources.n_ignored + block.first_pos
            pos = torch.arange(first, first + block.n_pos, device=self.columns.device)[:, None]
            passed = frozen_map.push_skip(model, forward, layer, pos, self._part(block))
            skipped[block.columns] = passed.flatten(0, 1)
        return skipped

    def _write_again(self, layer: int) -> None:
        """Cross-layer features write at every later layer too."""
        model, prepared = self.sources.model, self.sources.prepared
        if not model.transcoders.cross_layer or self.layer < 0:
            return
        is_feature = self.nodes < prepared.layout.n_features
        nodes, columns = self.nodes[is_feature], self._own[is_feature]
        feature = prepared.layout.features[nodes.cpu(), 2].to(nodes.device)
        rows = model.transcoders.layers[self.layer].decoder_rows(feature, layer - self.layer)
        factors = frozen_map.write_factors(model, prepared.forward, layer)[self.sources.n_ignored :]
        self.columns[columns] += rows * prepared.activations[nodes, None] * factors[self.pos[is_feature]]

    def _part(self, block: Block) -> Float[Tensor, "pos source d_model"]:
        return self.columns[block.columns].view(block.n_pos, block.n_rows, self.columns.shape[1])


def read_slots(sources: Sources, layer: int) -> tuple[Slots, ...]:
    """Read vectors of a layer's active features by position."""
    prepared = sources.prepared
    active, found = prepared.active[layer], prepared.layout.layer_features(layer)
    reads = feature_reads(sources.model, prepared.forward, layer, active.pos, active.feature)
    node = torch.arange(found.start, found.stop, device=active.pos.device)
    return padded(active.pos - sources.n_ignored, node, reads.vectors, sources.n_pos, prepared.layout.n_nodes + 1)
