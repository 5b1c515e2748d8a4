"""What the sources of a prompt wrote, in the coordinates of the raw stream, laid out for products over positions.

The same for several prompts side by side: then a place, a position of one of them, stands where a position does.

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
from tracer.attribution.joined import join
from tracer.attribution.known_streams import known_streams
from tracer.attribution.prepared import Prepared
from tracer.attribution.slots import Slots, padded
from tracer.model.replacement import ReplacementModel

MAX_KEPT_BYTES = 256 * 1024**2
"""What a prompt keeps of one kind between passes where nothing else is said."""


class Sources:
    """One prompt's sources, or those of several side by side; positions count from the first that is not ignored."""

    def __init__(self, model: ReplacementModel, *prompts: Prepared, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.model, self.joined = model, join(prompts)
        self.max_kept_bytes = max_kept_bytes
        """Beyond, what all layers need of one kind is made anew for every pass."""
        self.n_prompts, self.n_ignored = len(prompts), self.joined.n_ignored
        self.n_pos = self.joined.n_pos - self.n_ignored
        self.first_place, self.n_places = self.n_ignored * self.n_prompts, self.n_pos * self.n_prompts
        """Ignored places, and those that are counted."""
        self._n_floats = sum(len(of_layer.pos) for of_layer in self.joined.active) * self.joined.errors.shape[-1]
        self._kept: dict[tuple[str, int], Any] = {}

    @property
    def prepared(self) -> Prepared:
        """The prompt, where it is one alone."""
        (prepared,) = self.joined.prompts
        return prepared

    @property
    def is_long(self) -> bool:
        """Whether its mixing or write vectors are too large to be kept."""
        return 4 * max(self.joined.forward.patterns.numel(), self._n_floats) > self.max_kept_bytes

    def mixing(self, layer: int) -> Float[Tensor, "prompt_kv key group query"]:
        """`frozen_map.mixing` of these prompts."""
        forward = self.joined.forward
        return self._keep(
            "mixing", layer, forward.patterns.numel(),
            lambda: frozen_map.mixing(self.model, forward, layer, self.n_ignored),
        )  # fmt: skip

    def attention_constant(self, layer: int) -> Float[Tensor, "pos d_model"] | None:
        """`frozen_map.attention_constant` of these prompts."""

        def make() -> Tensor | None:
            constant = frozen_map.attention_constant(self.model, self.joined.forward, layer)
            return None if constant is None else constant[self.first_place :]

        return self._keep("constant", layer, self.joined.errors.numel(), make)

    def written(self, layer: int) -> tuple[Slots, ...]:
        """What features, errors and the transcoder's constant wrote into a layer's MLP output."""
        n_layers_read = (layer + 2) // 2 if self.model.transcoders.cross_layer else 1
        return self._keep("written", layer, self._n_floats * n_layers_read, lambda: self._make_written(layer))

    def start(self) -> tuple[Slots, ...]:
        """The stream in front of layer 0: token embeddings, and what no node accounts for (learned positions)."""
        forward, tokens = self.joined.forward, self.joined.token_nodes()
        vectors = torch.stack([forward.embedding, forward.stream_start - forward.embedding], dim=1)
        node = torch.stack([tokens, self.joined.no_nodes.repeat(self.joined.n_pos)], dim=1)
        return (Slots(first_pos=0, vectors=vectors[self.first_place :], node=node[self.first_place :]),)

    def start_values(self) -> tuple[Slots, ...]:
        """The same as layer 0's attention reads it."""
        W_V = self.model.weights.layers[0].W_V.flatten(0, 1)

        def make() -> tuple[Slots, ...]:
            (start,) = self.start()
            return (Slots(first_pos=0, vectors=start.vectors @ W_V.T, node=start.node),)

        return self._keep("start", 0, self.n_places * len(W_V), make)

    @cached_property
    def ignored_nodes(self) -> Int[Tensor, "part prompt"]:
        """The nodes that the parts of the ignored positions' stream count for: their tokens, and no node."""
        tokens = self.joined.token_nodes()[: self.first_place].view(self.n_ignored, self.n_prompts)
        return torch.cat([tokens, self.joined.no_nodes[None]])

    @cached_property
    def ignored_streams(self) -> tuple[Float[Tensor, "part place d_model"], ...]:
        """The stream at ignored positions at every stage, in the parts of `ignored_nodes`."""
        return tuple(
            known_streams(self.model, self.joined.forward, self.n_ignored, self.n_ignored, self.model.n_layers)
        )

    def ignored_values(self, layer: int) -> Float[Tensor, "prompt part read"]:
        """What a layer's attention reads of each part of the ignored positions' stream: by head, position, value."""
        W_V, streams = self.model.weights.layers[layer].W_V, self.ignored_streams[2 * layer]
        values = (streams @ W_V.flatten(0, 1).T).view(len(streams), self.n_ignored, self.n_prompts, *W_V.shape[:2])
        return values.permute(2, 0, 3, 1, 4).flatten(2)

    def writes_attention_constant(self, layer: int) -> bool:
        """Whether `written` accounts for the constant of the layer's attention too: nothing stands between them."""
        return self.model.facts.parallel or self.model.transcoders.layers[layer].W_skip is None

    def _make_written(self, layer: int) -> tuple[Slots, ...]:
        model, joined, first = self.model, self.joined, self.first_place
        vectors, nodes, positions = [], [], []
        for source in range(layer + 1) if model.transcoders.cross_layer else (layer,):
            active = joined.active[source]
            rows = model.transcoders.layers[source].decoder_rows(active.feature, layer - source)
            vectors.append(rows * active.value[:, None])
            nodes.append(joined.active_nodes[source])
            positions.append(active.pos - first)
        every = torch.arange(self.n_places, device=joined.errors.device)
        factors = frozen_map.write_factors(model, joined.forward, layer)[first:]
        constant = frozen_map.mlp_constant(model, layer).expand(self.n_places, -1) * factors
        by_attention = self.attention_constant(layer)
        if by_attention is not None and self.writes_attention_constant(layer):
            constant = constant + by_attention
        pos = torch.cat([*positions, every])
        written = torch.cat([*vectors, joined.errors[layer, first:]]) * factors[pos]
        node = torch.cat([*nodes, joined.error_nodes(layer)[first:], joined.no_nodes.repeat(self.n_pos)])
        return padded(torch.cat([pos, every]), node, torch.cat([written, constant]), self.n_places, joined.nothing)

    def _keep(self, name: str, layer: int, n_floats: int, make: Callable[[], Any]) -> Any:
        """What `make` makes, kept for the next time unless all layers of it would be large."""
        if 4 * n_floats > self.max_kept_bytes:
            return make()
        if (name, layer) not in self._kept:
            self._kept[name, layer] = make()
        return self._kept[name, layer]
