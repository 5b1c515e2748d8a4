"""The oracle: the same rows by autograd through the bridge's own forward pass. Slow, and meant to be obviously right.

Attention patterns and norm scales are set to their captured values, every MLP output is a leaf; then the gradient of a node's value with
respect to an MLP output or an embedding, dotted with what a source wrote there, is the edge. Shares with the explicit engine nothing
but the node numbering and the captured forward pass.
"""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from tracer.attribution.prepared import Prepared, Rows
from tracer.model.forward import READ_HOOKS
from tracer.model.replacement import Hook, ReplacementModel


class Oracle:
    """Rows for one prompt by autograd."""

    def __init__(self, model: ReplacementModel, prepared: Prepared) -> None:
        self.model, self.prepared = model, prepared
        forward = prepared.forward
        self.embedding = forward.embedding.clone().requires_grad_(True)
        self.mlp_outputs = [output.clone().requires_grad_(True) for output in forward.mlp_outputs]
        self.reads: dict[int, Tensor] = {}
        with torch.enable_grad(), model.hooks(self._hooks()) as bridge:
            logits = bridge(forward.token_ids[None])[0]
            self.demeaned_logits = logits - logits.mean(-1, keepdim=True)

    def _hooks(self) -> list[Hook]:
        forward, model = self.prepared.forward, self.model

        def put(value: Tensor) -> Any:
            return lambda original, hook: value.reshape(original.shape)

        def record(layer: int) -> Any:
            def hook_function(value: Tensor, hook: Any) -> None:
                self.reads[layer] = value[0]

            return hook_function

        hooks: list[Hook] = [("embed.hook_out", put(self.embedding))]
        for layer in range(model.n_layers):
            block = f"blocks.{layer}"
            hooks += [
                (f"{block}.attn.hook_pattern", put(forward.patterns[layer])),
                (f"{block}.ln1.hook_scale", put(forward.attention_scales[layer])),
                (f"{block}.ln2.hook_scale", put(forward.mlp_scales[layer])),
                (f"{block}.{READ_HOOKS[model.transcoders.read_point]}", record(layer)),
                (f"{block}.mlp.hook_out", put(self.mlp_outputs[layer])),
            ]
        return [*hooks, ("ln_final.hook_scale", put(forward.final_scale))]

    def value(self, node: int) -> Tensor:
        """The node's pre-activation or demeaned logit, attached to the leaves."""
        layout = self.prepared.layout
        if node >= layout.first_target:
            target = self.prepared.targets.targets[node - layout.first_target]
            return self.demeaned_logits[target.pos, target.token_id]
        layer, pos, feature = layout.features[node].tolist()
        transcoder = self.model.transcoders.layers[layer]
        return self.reads[layer][pos] @ transcoder.W_enc[feature] + transcoder.b_enc[feature]

    def rows(self, nodes: Int[Tensor, " row"]) -> Rows:
        """Rows of feature or target nodes, in the order asked."""
        layout = self.prepared.layout
        weights = torch.zeros(len(nodes), layout.n_nodes, dtype=self.prepared.errors.dtype)
        bias = torch.zeros(len(nodes), dtype=weights.dtype)
        for place, node in enumerate(nodes.tolist()):
            value = self.value(node)
            gradients = torch.autograd.grad(value, [*self.mlp_outputs, self.embedding], retain_graph=True, allow_unused=True)
            *mlp, embedding = [torch.zeros_like(self.embedding) if found is None else found for found in gradients]
            weights[place] = self._edges(mlp, embedding)
            bias[place] = value.detach() - weights[place].sum()
        return Rows(weights=weights, bias=bias)

    def _edges(self, mlp_gradients: list[Tensor], embedding_gradient: Tensor) -> Tensor:
        prepared, transcoders = self.prepared, self.model.transcoders
        edges = torch.zeros(prepared.layout.n_nodes)
        reconstruction = [layer.b_dec.expand_as(gradient).clone() for layer, gradient in zip(transcoders.layers, mlp_gradients, strict=True)]
        for node, (layer, pos, feature) in enumerate(prepared.layout.features.tolist()):
            decoder = transcoders.layers[layer].W_dec[feature] * prepared.activations[node]
            for offset, vector in enumerate(decoder):
                edges[node] += vector @ mlp_gradients[layer + offset][pos]
                reconstruction[layer + offset][pos] += vector
        n_ignored = self.model.facts.architecture.n_ignored_positions
        for layer, gradient in enumerate(mlp_gradients):
            error = prepared.forward.mlp_outputs[layer] - reconstruction[layer]
            error[:n_ignored] = 0
            edges[prepared.layout.errors(layer)] = (error * gradient).sum(-1).cpu()
        edges[prepared.layout.first_token : prepared.layout.first_target] = (
            (prepared.forward.embedding * embedding_gradient).sum(-1).cpu()
        )
        return edges
