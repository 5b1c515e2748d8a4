"""Doubles sources in the bridge's own forward pass, with attention, norms and MLPs frozen.

All sources are doubled in one pass, each in a copy of the prompt of its own. Nothing of the engine or the oracle is
used, so edges can be checked against it: a doubled source must move every value by its edge.
"""

from typing import Any

import torch

from tracer.attribution.prepared import Prepared
from tracer.graph.layout import NodeLayout
from tracer.model.replacement import ReplacementModel

N_DOUBLED_FEATURES = 100


def doubled_nodes(layout: NodeLayout) -> torch.Tensor:
    """At most 100 random features, and every error and token."""
    features = torch.randperm(layout.n_features, generator=torch.Generator().manual_seed(0))[:N_DOUBLED_FEATURES]
    return torch.cat([features, torch.arange(layout.first_error, layout.first_target)])


def additions(model: ReplacementModel, prepared: Prepared, nodes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What doubling adds: embeddings (copy, pos, d_model) and MLP outputs (layer, copy, pos, d_model)."""
    layout, forward = prepared.layout, prepared.forward
    embedding = torch.zeros(len(nodes), *forward.embedding.shape)
    written = torch.zeros(model.n_layers, *embedding.shape)
    for copy, node in enumerate(nodes.tolist()):
        if node >= layout.first_token:
            pos = node - layout.first_token
            embedding[copy, pos] = forward.embedding[pos]
        elif node >= layout.first_error:
            layer, pos = divmod(node - layout.first_error, layout.n_pos)
            written[layer, copy, pos] = prepared.errors[layer, pos]
        else:
            layer, pos, feature = layout.features[node].tolist()
            for offset, vector in enumerate(model.transcoders.layers[layer].W_dec[feature]):
                written[layer + offset, copy, pos] = prepared.activations[node] * vector
    return embedding, written


@torch.no_grad()
def changes_by_doubling(model: ReplacementModel, prepared: Prepared, nodes: torch.Tensor) -> torch.Tensor:
    """How doubling moves the value of every node with a row, shape (row, doubled)."""
    forward, layout, transcoders = prepared.forward, prepared.layout, model.transcoders
    embedding, written = additions(model, prepared, nodes)
    reads: list[torch.Tensor] = []
    uncapped: list[torch.Tensor] = []

    def write(layer: int) -> Any:
        W_skip = transcoders.layers[layer].W_skip

        def hook_function(value: torch.Tensor, hook: Any) -> torch.Tensor:
            change = 0.0 if W_skip is None else (reads[layer] - forward.reads[layer]) @ W_skip.T
            return (forward.mlp_outputs[layer] + written[layer] + change).reshape(value.shape)

        return hook_function

    hooks: list[Any] = [
        (name, lambda value, hook, frozen=frozen: frozen.reshape(1, *value.shape[1:]).expand_as(value))
        for name, frozen in forward.frozen().items()
    ]
    hooks.append(("embed.hook_out", lambda value, hook: value + embedding))
    hooks.append(("unembed.hook_out", lambda value, hook: uncapped.append(value)))
    for layer in range(model.n_layers):
        hooks.append((model.hook_names.read(layer), lambda value, hook: reads.append(value.reshape(embedding.shape))))
        hooks.append((model.hook_names.write(layer), write(layer)))
    with model.hooks(hooks) as bridge:
        bridge(forward.token_ids.expand(len(nodes), -1))
    moved = [
        (reads[layer][:, pos] - forward.reads[layer, pos]) @ transcoders.layers[layer].W_enc[feature]
        for layer, pos, feature in layout.features.tolist()
    ]
    logits = uncapped[0] - forward.uncapped_logits
    demeaned = logits - logits.mean(-1, keepdim=True)
    return torch.stack([*moved, *(demeaned[:, target.pos, target.token_id] for target in prepared.targets.targets)])
