"""What the sources of one prompt wrote, in the coordinates of the raw stream, laid out for products over positions.

Leading ignored positions carry no feature and no error and see only each other, so the stream there is known
beforehand: it is pushed up once, in parts, instead of being pulled back for every row.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution import frozen_map
from tracer.attribution.known_streams import known_streams
from tracer.attribution.prepared import Prepared
from tracer.attribution.slots import Slots, padded
from tracer.model.replacement import ReplacementModel

MAX_KEPT_BYTES = 256 * 1024**2
"""What a prompt keeps of one kind between passes where nothing else is said."""


class Sources:
    """One prompt's sources; positions count from the first that is not ignored."""

    def __init__(self, model: ReplacementModel, prepared: Prepared, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.model, self.prepared = model, prepared
        self.max_kept_bytes = max_kept_bytes
        """Beyond, what all layers need of one kind is made anew for every pass."""
        self.n_ignored = prepared.n_ignored
        self.n_pos = prepared.layout.n_pos - self.n_ignored
        self._kept: dict[tuple[str, int], Any] = {}

    @property
    def is_long(self) -> bool:
        """Whether its mixing or write vectors are too large to be kept."""
        n_vectors = self.prepared.layout.n_features * self.prepared.errors.shape[-1]
        return 4 * max(self.prepared.forward.patterns.numel(), n_vectors) > self.max_kept_bytes

    def mixing(self, layer: int) -> Float[Tensor, "kv key group query"]:
        """`frozen_map.mixing` of this prompt."""
        forward = self.prepared.forward
        return self._keep(
            "mixing", layer, forward.patterns.numel(),
            lambda: frozen_map.mixing(self.model, forward, layer, self.n_ignored),
        )  # fmt: skip

    def attention_constant(self, layer: int) -> Float[Tensor, "pos d_model"] | None:
        """`frozen_map.attention_constant` of this prompt."""

        def make() -> Tensor | None:
            constant = frozen_map.attention_constant(self.model, self.prepared.forward, layer)
            return None if constant is None else constant[self.n_ignored :]

        return self._keep("constant", layer, self.prepared.errors.numel(), make)

    def written(self, layer: int) -> tuple[Slots, ...]:
        """What features, errors and the transcoder's constant wrote into a layer's MLP output."""
        n_layers_read = (layer + 2) // 2 if self.model.transcoders.cross_layer else 1
        n_kept = self.prepared.layout.n_features * self.prepared.errors.shape[-1] * n_layers_read
        return self._keep("written", layer, n_kept, lambda: self._make_written(layer))

    def start(self) -> tuple[Slots, ...]:
        """The stream in front of layer 0: token embeddings, and what no node accounts for (learned positions)."""
        forward, layout = self.prepared.forward, self.prepared.layout
        vectors = torch.stack([forward.embedding, forward.stream_start - forward.embedding], dim=1)
        tokens = torch.arange(layout.first_token, layout.first_target, device=vectors.device)
        node = torch.stack([tokens, torch.full_like(tokens, layout.n_nodes)], dim=1)
        return (Slots(first_pos=0, vectors=vectors[self.n_ignored :], node=node[self.n_ignored :]),)

    def start_values(self) -> tuple[Slots, ...]:
        """The same as layer 0's attention reads it."""
        W_V = self.model.weights.layers[0].W_V.flatten(0, 1)

        def make() -> tuple[Slots, ...]:
            (start,) = self.start()
            return (Slots(first_pos=0, vectors=start.vectors @ W_V.T, node=start.node),)

        return self._keep("start", 0, self.n_pos * len(W_V), make)

    @cached_property
    def ignored_nodes(self) -> Int[Tensor, " part"]:
        """The nodes that the parts of the ignored positions' stream count for: their tokens, and no node."""
        layout = self.prepared.layout
        first = layout.first_token
        nodes = torch.tensor([*range(first, first + self.n_ignored), layout.n_nodes])
        return nodes.to(self.prepared.errors.device)

    @cached_property
    def ignored_streams(self) -> tuple[Float[Tensor, "part pos d_model"], ...]:
        """The stream at ignored positions at every stage, in the parts of `ignored_nodes`."""
        return tuple(known_streams(self.model, self.prepared, self.n_ignored, self.model.n_layers))

    def ignored_values(self, layer: int) -> Float[Tensor, "part read"]:
        """What a layer's attention reads of each part of the ignored positions' stream: by head, position, value."""
        W_V, streams = self.model.weights.layers[layer].W_V, self.ignored_streams[2 * layer]
        values = (streams @ W_V.flatten(0, 1).T).unflatten(2, W_V.shape[:2])
        return values.transpose(1, 2).flatten(1)

    def writes_attention_constant(self, layer: int) -> bool:
        """Whether `written` accounts for the constant of the layer's attention too: nothing stands between them."""
        return self.model.facts.parallel or self.model.transcoders.layers[layer].W_skip is None

    def _make_written(self, layer: int) -> tuple[Slots, ...]:
        model, prepared, first = self.model, self.prepared, self.n_ignored
        layout, device = prepared.layout, prepared.errors.device
        vectors, nodes, positions = [], [], []
        for source in range(layer + 1) if model.transcoders.cross_layer else (layer,):
            active = prepared.active[source]
            rows = model.transcoders.layers[source].decoder_rows(active.feature, layer - source)
            vectors.append(rows * active.value[:, None])
            found = layout.layer_features(source)
            nodes.append(torch.arange(found.start, found.stop, device=device))
            positions.append(active.pos - first)
        every = torch.arange(self.n_pos, device=device)
        factors = frozen_map.write_factors(model, prepared.forward, layer)[first:]
        constant = frozen_map.mlp_constant(model, layer).expand(self.n_pos, -1) * factors
        by_attention = self.attention_constant(layer)
        if by_attention is not None and self.writes_attention_constant(layer):
            constant = constant + by_attention
        pos = torch.cat([*positions, every])
        written = torch.cat([*vectors, prepared.errors[layer, first:]]) * factors[pos]
        node = torch.cat([*nodes, every + (layout.errors(layer).start + first), torch.full_like(every, layout.n_nodes)])
        return padded(torch.cat([pos, every]), node, torch.cat([written, constant]), self.n_pos, layout.n_nodes + 1)

    def _keep(self, name: str, layer: int, n_floats: int, make: Callable[[], Any]) -> Any:
        """What `make` makes, kept for the next time unless all layers of it would be large."""
        if 4 * n_floats > self.max_kept_bytes:
            return make()
        if (name, layer) not in self._kept:
            self._kept[name, layer] = make()
        return self._kept[name, layer]
