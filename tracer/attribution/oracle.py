"""The oracle: the same rows by autograd through the bridge's own forward pass. Slow, and meant to be obviously right.

Attention patterns and norm scales are set to their captured values, every MLP output is a leaf; then the gradient of a
node's value with respect to an MLP output or an embedding, dotted with what a source wrote there, is the edge. Shares
with the explicit engine nothing but the node numbering and the captured forward pass.
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
        self.written = [self._written(layer) for layer in range(model.n_layers)]
        self.errors = self._errors()
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
            gradients = torch.autograd.grad(
                value, [*self.mlp_outputs, self.embedding], retain_graph=True, allow_unused=True
            )
            *mlp, embedding = [torch.zeros_like(self.embedding) if found is None else found for found in gradients]
            weights[place] = self._edges(mlp, embedding)
            bias[place] = value.detach() - weights[place].sum()
        return Rows(weights=weights, bias=bias)

    def _written(self, layer: int) -> Tensor:
        """What each active feature of `layer` wrote, shape (feature, written, d_model)."""
        nodes = self.prepared.layout.layer_features(layer)
        features = self.prepared.layout.features[nodes, 2]
        decoder = self.model.transcoders.layers[layer].W_dec[features]
        return decoder * self.prepared.activations[nodes, None, None]

    def _errors(self) -> list[Tensor]:
        """MLP outputs minus decoder biases minus what features wrote, by layer; zero at ignored positions."""
        layout, transcoders = self.prepared.layout, self.model.transcoders
        errors = [
            output - layer.b_dec
            for output, layer in zip(self.prepared.forward.mlp_outputs, transcoders.layers, strict=True)
        ]
        for layer, vectors in enumerate(self.written):
            pos = layout.features[layout.layer_features(layer), 1].to(vectors.device)
            for offset in range(vectors.shape[1]):
                errors[layer + offset].index_add_(0, pos, vectors[:, offset], alpha=-1)
        for error in errors:
            error[: self.model.facts.architecture.n_ignored_positions] = 0
        return errors

    def _edges(self, mlp_gradients: list[Tensor], embedding_gradient: Tensor) -> Tensor:
        layout = self.prepared.layout
        edges = torch.zeros(layout.n_nodes)
        for layer, vectors in enumerate(self.written):
            nodes = layout.layer_features(layer)
            pos = layout.features[nodes, 1]
            for offset in range(vectors.shape[1]):
                edges[nodes] += (vectors[:, offset] * mlp_gradients[layer + offset][pos]).sum(-1).cpu()
        for layer, (error, gradient) in enumerate(zip(self.errors, mlp_gradients, strict=True)):
            edges[layout.errors(layer)] = (error * gradient).sum(-1).cpu()
        edges[layout.first_token : layout.first_target] = (
            (self.prepared.forward.embedding * embedding_gradient).sum(-1).cpu()
        )
        return edges
