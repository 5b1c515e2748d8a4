"""The oracle: the same rows by autograd through the bridge's own forward pass. Slow, and meant to be obviously right.

Attention patterns and norm scales are set to their captured values; every MLP output is a leaf at the place where
transcoders write, to which a skip connection adds its change. Then the gradient of a node's value with respect to an
MLP output or an embedding, dotted with what a source wrote there, is the edge. Shares with the explicit engine nothing
but the node numbering and the captured forward pass.

For an architecture outside the table every pattern and scale that the bridge offers is frozen, and the pass is run with
its leaves moved to see that it really is linear then: where it is not, no graph is given rather than a wrong one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.definitions import Definition, DemeanedLogit, FeatureRead, LogitDirection
from tracer.attribution.prepared import Prepared, Rows
from tracer.errors import ModelError
from tracer.model.replacement import Hook, ReplacementModel

MAX_CURVATURE = 1e-3
"""How far from linear the frozen pass may be, as a share of its largest change; rounding gives about 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What nodes can read in one frozen pass, attached to the leaves."""

    reads: dict[int, Float[Tensor, "pos d_model"]]
    streams: dict[int, Float[Tensor, "pos d_model"]]
    logits: Float[Tensor, "pos vocab"]


class Oracle:
    """Rows for one prompt by autograd."""

    def __init__(self, model: ReplacementModel, prepared: Prepared) -> None:
        self.model, self.prepared = model, prepared
        forward = prepared.forward
        self.embedding = forward.embedding.clone().requires_grad_(True)
        self.mlp_outputs = [output.clone().requires_grad_(True) for output in forward.mlp_outputs]
        self.written = [self._written(layer) for layer in range(model.n_layers)]
        self.errors = self._errors()
        if not model.facts.explicit:
            self._check_linear()
        with torch.enable_grad():
            self.frozen_pass = self._run(self.embedding, self.mlp_outputs)

    def value(self, node: int) -> Tensor:
        """The node's pre-activation or target value, attached to the leaves."""
        layout = self.prepared.layout
        if node >= layout.first_target:
            return self.defined_value(self.prepared.targets.definitions[node - layout.first_target])
        layer, pos, feature = layout.features[node].tolist()
        return self.defined_value(FeatureRead(layer=layer, pos=pos, feature=feature))

    def defined_value(self, definition: Definition) -> Tensor:
        """The value of anything that can be a target, attached to the leaves."""
        found = self.frozen_pass
        if isinstance(definition, DemeanedLogit):
            logits = found.logits[definition.pos]
            return logits[definition.token_id] - logits.mean()
        if isinstance(definition, LogitDirection):
            return (definition.directions * found.logits[definition.pos]).sum()
        if isinstance(definition, FeatureRead):
            transcoder = self.model.transcoders.layers[definition.layer]
            read = found.reads[definition.layer][definition.pos]
            return transcoder.pre_activation(read, definition.feature)
        return definition.vector @ found.streams[definition.stage][definition.pos]

    def rows(self, nodes: Int[Tensor, " row"]) -> Rows:
        """Rows of feature or target nodes, in the order asked."""
        layout = self.prepared.layout
        weights = torch.zeros(len(nodes), layout.n_nodes, dtype=self.prepared.errors.dtype)
        bias = torch.zeros(len(nodes), dtype=weights.dtype)
        for place, node in enumerate(nodes.tolist()):
            value = self.value(node)
            weights[place] = self.edges(value)
            bias[place] = value.detach() - weights[place].sum()
        return Rows(weights=weights, bias=bias)

    def edges(self, value: Tensor) -> Float[Tensor, " node"]:
        """The direct effect of every node on a value of the frozen pass."""
        leaves = [*self.mlp_outputs, self.embedding]
        # What reads the first layer sees no MLP output: there is no gradient then, which is zero.
        gradients = torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        *mlp_gradients, embedding_gradient = gradients
        layout = self.prepared.layout
        edges = torch.zeros(layout.n_nodes)
        for layer, vectors in enumerate(self.written):
            nodes = layout.layer_features(layer)
            pos = layout.features[nodes, 1].to(vectors.device)
            for offset in range(vectors.shape[1]):
                edges[nodes] += (vectors[:, offset] * mlp_gradients[layer + offset][pos]).sum(-1).cpu()
        for layer, (error, gradient) in enumerate(zip(self.errors, mlp_gradients, strict=True)):
            edges[layout.errors(layer)] = (error * gradient).sum(-1).cpu()
        tokens = slice(layout.first_token, layout.first_target)
        edges[tokens] = (self.prepared.forward.embedding * embedding_gradient).sum(-1).cpu()
        return edges

    def _run(self, embedding: Tensor, mlp_outputs: list[Tensor]) -> _Pass:
        """The bridge's own forward pass with everything frozen and the given leaves."""
        forward, model = self.prepared.forward, self.model
        reads: dict[int, Tensor] = {}
        kept: dict[str, Tensor] = {}

        def put(value: Tensor) -> Any:
            return lambda original, hook: value.reshape(original.shape)

        def read(layer: int) -> Any:
            def hook_function(value: Tensor, hook: Any) -> None:
                reads[layer] = value.reshape(embedding.shape)

            return hook_function

        def write(layer: int) -> Any:
            def hook_function(value: Tensor, hook: Any) -> Tensor:
                transcoder = model.transcoders.layers[layer]
                change = transcoder.skip(reads[layer]) - transcoder.skip(forward.reads[layer])
                return (mlp_outputs[layer] + change).reshape(value.shape)

            return hook_function

        def keep(name: str) -> Hook:
            return name, lambda value, hook: kept.__setitem__(name, value[0])

        hooks: list[Hook] = [("embed.hook_out", put(embedding))]
        hooks += [(name, put(value)) for name, value in forward.frozen().items()]
        for layer in range(model.n_layers):
            hooks += [(model.hook_names.read(layer), read(layer)), (model.hook_names.write(layer), write(layer))]
        stages = self._stages()
        hooks += [keep(name) for names in stages.values() for name in names] + [keep("unembed.hook_out")]
        with model.hooks(hooks) as bridge:
            logits = bridge(forward.token_ids[None])[0]
        streams = {stage: sum((kept[name] for name in names[1:]), kept[names[0]]) for stage, names in stages.items()}
        uncapped = kept["unembed.hook_out"] if model.facts.final_softcap else logits
        return _Pass(reads=reads, streams=streams, logits=uncapped)

    def _stages(self) -> dict[int, list[str]]:
        """Hooks whose values add up to the stream at each stage."""
        facts = self.model.facts
        if not facts.explicit:
            return {}
        stages = {2 * facts.n_layers: ["ln_final.hook_in"]}
        for layer in range(facts.n_layers):
            stages[2 * layer] = [f"blocks.{layer}.hook_in"]
            stages[2 * layer + 1] = [f"blocks.{layer}.ln2.hook_in"]
            if facts.parallel:
                stages[2 * layer + 1] = [f"blocks.{layer}.hook_in", f"blocks.{layer}.attn.hook_out"]
        return stages

    @torch.no_grad()
    def _check_linear(self) -> None:
        """Refuse a frozen pass that is not linear: twice the step must give twice the change.

        Raises:
            ModelError: something that bends the stream is not frozen.
        """
        generator = torch.Generator().manual_seed(0)
        steps = [
            torch.randn(leaf.shape, generator=generator).to(leaf) * leaf.square().mean().sqrt()
            for leaf in (self.embedding, *self.mlp_outputs)
        ]
        found = []
        for size in (0.0, 1.0, 2.0):
            leaves = [leaf + size * step for leaf, step in zip((self.embedding, *self.mlp_outputs), steps, strict=True)]
            moved = self._run(leaves[0], leaves[1:])
            found.append([*moved.reads.values(), moved.logits])
        for start, once, twice in zip(*found, strict=True):
            curvature = (twice - 2 * once + start).abs().max()
            if not float(curvature) <= MAX_CURVATURE * float((twice - start).abs().max()):
                raise ModelError(
                    "oracle", found="a forward pass that is not linear with all patterns and norm scales frozen",
                    expected="an architecture that is linear then",
                    to_do="This architecture cannot be attributed; add it to the table with what else it needs.",
                )  # fmt: skip

    def _written(self, layer: int) -> Tensor:
        """What each active feature of `layer` wrote, shape (feature, written, d_model)."""
        nodes = self.prepared.layout.layer_features(layer)
        transcoder = self.model.transcoders.layers[layer]
        features = self.prepared.layout.features[nodes, 2].to(transcoder.b_enc.device)
        return transcoder.write_vectors(features) * self.prepared.activations[nodes, None, None]

    def _errors(self) -> list[Tensor]:
        """MLP outputs minus decoder biases, skip connections and what features wrote; zero at ignored positions."""
        layout, layers, forward = self.prepared.layout, self.model.transcoders.layers, self.prepared.forward
        errors = [
            output - layer.b_dec - layer.skip(read)
            for output, layer, read in zip(forward.mlp_outputs, layers, forward.reads, strict=True)
        ]
        for layer, vectors in enumerate(self.written):
            pos = layout.features[layout.layer_features(layer), 1].to(vectors.device)
            for offset in range(vectors.shape[1]):
                errors[layer + offset].index_add_(0, pos, vectors[:, offset], alpha=-1)
        for error in errors:
            error[: self.model.facts.n_ignored_positions(forward.token_ids.tolist())] = 0
        return errors
