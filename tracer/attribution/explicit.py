"""The explicit engine: rows of the adjacency from the frozen linear map, without autograd.

Going down from where a node reads: at each layer contract the read vectors with what that layer's MLP wrote (decoder
vectors times activations, errors), then pull them back over attention; at the bottom, contract with the token
embeddings.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.frozen_map import through_attention
from tracer.attribution.prepared import Prepared, Rows
from tracer.model.replacement import ReplacementModel

N_LIVE_COPIES = 8
"""Tensors of the size of the read vectors that are alive at once; measured, sets the chunk size from the memory
budget.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What features wrote into one layer's MLP output, padded by position; `node` is `n_nodes` where there is none."""

    vectors: Float[Tensor, "pos slot d_model"]
    node: Int[Tensor, "pos slot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reads:
    """Nodes that read at one place: their indices, positions, read vectors in front of the norm, and biases."""

    layer: int
    nodes: Int[Tensor, " row"]
    pos: Int[Tensor, " row"]
    vectors: Float[Tensor, "row d_model"]
    bias: Float[Tensor, " row"]


class ExplicitEngine:
    """Rows for one prompt; holds the write vectors of its active features."""

    def __init__(self, model: ReplacementModel, prepared: Prepared, *, memory_budget_bytes: int) -> None:
        self.model, self.prepared = model, prepared
        self.written = [self._written(layer) for layer in range(model.n_layers)]
        forward = prepared.forward
        n_ignored = model.facts.architecture.n_ignored_positions
        constant = torch.stack([layer.b_dec for layer in model.transcoders.layers])[:, None].expand_as(
            forward.mlp_outputs
        )
        self.mlp_constant = torch.cat([forward.mlp_outputs[:, :n_ignored], constant[:, n_ignored:]], dim=1)
        row_bytes = N_LIVE_COPIES * forward.n_pos * forward.embedding.shape[1] * forward.embedding.element_size()
        self.n_chunk_rows = max(1, memory_budget_bytes // row_bytes)

    def rows(self, nodes: Int[Tensor, " row"]) -> Rows:
        """Rows of feature or target nodes, in the order asked."""
        layout = self.prepared.layout
        weights = torch.zeros(len(nodes), layout.n_nodes, dtype=self.prepared.errors.dtype)
        bias = torch.zeros(len(nodes), dtype=weights.dtype)
        node_layers = layout.layers()[nodes]
        for layer in node_layers.unique().tolist():
            places = (node_layers == layer).nonzero().flatten()
            for part in places.split(self.n_chunk_rows):
                reads = self._reads(layer, nodes[part])
                found = self._rows_of_layer(reads)
                weights[part], bias[part] = found.weights.to("cpu"), found.bias.to("cpu")
        return Rows(weights=weights, bias=bias)

    def _written(self, layer: int) -> Written:
        """Write vectors of all features that write into `layer`."""
        model, prepared = self.model, self.prepared
        vectors, nodes, positions = [], [], []
        for source in range(layer + 1) if model.transcoders.cross_layer else (layer,):
            active = prepared.active[source]
            decoder = model.transcoders.layers[source].W_dec
            vectors.append(decoder[active.feature, layer - source] * active.value[:, None])
            found = prepared.layout.layer_features(source)
            nodes.append(torch.arange(found.start, found.stop, device=active.pos.device))
            positions.append(active.pos)
        pos, node, vector = torch.cat(positions), torch.cat(nodes), torch.cat(vectors)
        order = pos.argsort(stable=True)
        pos, node, vector = pos[order], node[order], vector[order]
        counts = torch.bincount(pos, minlength=prepared.layout.n_pos)
        slot = torch.arange(len(pos), device=pos.device) - (counts.cumsum(0) - counts)[pos]
        shape = (prepared.layout.n_pos, max(1, int(counts.max())))
        padded = torch.zeros(*shape, vector.shape[1], dtype=vector.dtype, device=vector.device)
        padded_node = torch.full(shape, prepared.layout.n_nodes, device=vector.device)
        padded[pos, slot], padded_node[pos, slot] = vector, node
        return Written(vectors=padded, node=padded_node)

    def _reads(self, layer: int, nodes: Tensor) -> _Reads:
        """Read vectors of nodes of one layer (`n_layers`: targets), sorted by position."""
        model, prepared = self.model, self.prepared
        device = prepared.errors.device
        if layer == model.n_layers:
            places = (nodes - prepared.layout.first_target).to(device)
            pos = torch.tensor([target.pos for target in prepared.targets.targets], device=device)[places]
            norm, scale = model.weights.final_norm, prepared.forward.final_scale[pos]
            vectors, bias = prepared.targets.vectors[places], prepared.targets.biases[places]
            return _Reads(
                layer=layer, nodes=nodes, pos=pos, bias=bias + vectors @ norm.bias,
                vectors=norm.pull_back(vectors) / scale[:, None],
            )  # fmt: skip
        _, pos, feature = prepared.layout.features[nodes].to(device).unbind(1)
        transcoder, norm = model.transcoders.layers[layer], model.weights.layers[layer].mlp_norm
        vectors, bias = transcoder.W_enc[feature], transcoder.b_enc[feature]
        scale = prepared.forward.mlp_scales[layer, pos][:, None]
        if model.transcoders.read_point == "mlp_in":
            bias, vectors = bias + vectors @ norm.bias, norm.pull_back(vectors) / scale
        elif model.transcoders.read_point == "normalised":
            vectors = norm.centre(vectors) / scale
        return _Reads(layer=layer, nodes=nodes, pos=pos, vectors=vectors, bias=bias)

    def _rows_of_layer(self, reads: _Reads) -> Rows:
        prepared, weights = self.prepared, self.model.weights
        forward, layout = prepared.forward, prepared.layout
        n_rows, n_cone = len(reads.pos), int(reads.pos.max()) + 1
        G = torch.zeros(n_rows, n_cone, reads.vectors.shape[1], dtype=reads.vectors.dtype, device=reads.vectors.device)
        G[torch.arange(n_rows), reads.pos] = reads.vectors
        # One column more than there are nodes takes what padding contributes.
        found = torch.zeros(n_rows, layout.n_nodes + 1, dtype=G.dtype, device=G.device)
        bias = reads.bias.clone()
        for layer in reversed(range(min(reads.layer + 1, self.model.n_layers))):
            if layer < reads.layer:
                self._contract(layer, G, found, bias)
            bias += G.sum(1) @ weights.layers[layer].attention_bias
            G = through_attention(weights, forward, layer, G)
        tokens = slice(layout.first_token, layout.first_token + n_cone)
        found[:, tokens] = torch.einsum("rpd,pd->rp", G, forward.embedding[:n_cone])
        bias += torch.einsum("rpd,pd->r", G, (forward.stream_start - forward.embedding)[:n_cone])
        return Rows(weights=found[:, :-1], bias=bias)

    def _contract(self, layer: int, G: Tensor, found: Tensor, bias: Tensor) -> None:
        """Add what layer's MLP output contributes to `found` and `bias`."""
        n_rows, n_cone, _ = G.shape
        written = self.written[layer]
        by_slot = torch.bmm(G.transpose(0, 1), written.vectors[:n_cone].transpose(1, 2))
        found.index_add_(1, written.node[:n_cone].flatten(), by_slot.permute(1, 0, 2).reshape(n_rows, -1))
        first = self.prepared.layout.errors(layer).start
        found[:, first : first + n_cone] = torch.einsum("rpd,pd->rp", G, self.prepared.errors[layer, :n_cone])
        bias += torch.einsum("rpd,pd->r", G, self.mlp_constant[layer, :n_cone])
