"""Prompts side by side: several small ones as one, so that what is done for each of them is done once for all.

Their positions, padded to the longest, lie place by place: position 0 of every prompt, then position 1 of every one.
Nodes are numbered prompt by prompt, `stride` numbers each, of which the last two stand for what no node accounts for
and for nothing. One prompt alone is the same with places that are positions and its own node numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tracer.attribution.prepared import Prepared
from tracer.model.forward import FrozenPass
from tracer.model.transcoders import Activations


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Prompts side by side; they have as many ignored positions each."""

    prompts: tuple[Prepared, ...]
    forward: FrozenPass
    active: tuple[Activations, ...]
    """Of each layer; positions are places."""
    active_nodes: tuple[Int[Tensor, " _"], ...]
    errors: Float[Tensor, "layer place d_model"]
    n_pos: int
    """Of the longest."""
    stride: int

    @property
    def n_prompts(self) -> int:
        """Prompts side by side."""
        return len(self.prompts)

    @property
    def n_ignored(self) -> int:
        """Leading positions of each prompt without features and errors."""
        return self.prompts[0].n_ignored

    @property
    def nothing(self) -> int:
        """A number that stands for nothing."""
        return self.n_prompts * self.stride - 1

    @property
    def no_nodes(self) -> Int[Tensor, " prompt"]:
        """The number of each prompt that stands for what no node accounts for."""
        return self._first_nodes(0) + (self.stride - 2)

    def error_nodes(self, layer: int) -> Int[Tensor, " place"]:
        """The error nodes of a layer by place."""
        return self._by_place([prepared.layout.errors(layer).start for prepared in self.prompts])

    def token_nodes(self) -> Int[Tensor, " place"]:
        """The token nodes by place."""
        return self._by_place([prepared.layout.first_token for prepared in self.prompts])

    def _first_nodes(self, first: int) -> Int[Tensor, " prompt"]:
        return torch.arange(self.n_prompts, device=self.errors.device) * self.stride + first

    def _by_place(self, firsts: list[int]) -> Int[Tensor, " place"]:
        """Consecutive nodes of each prompt from its first of a kind on, one a position."""
        device = self.errors.device
        bounds = torch.tensor([firsts, [prepared.layout.n_pos for prepared in self.prompts]], device=device)
        pos = torch.arange(self.n_pos, device=device)[:, None]
        nodes = self._first_nodes(0) + bounds[0] + pos
        return torch.where(pos < bounds[1], nodes, self.nothing).flatten()


def join(prompts: Sequence[Prepared]) -> Joined:
    """Prompts side by side."""
    n_layers, n_prompts = len(prompts[0].active), len(prompts)
    stride = max(prepared.layout.n_nodes for prepared in prompts) + 2
    active, nodes = [], []
    for layer in range(n_layers):
        of_layer = [prepared.active[layer] for prepared in prompts]
        ranges = [prepared.layout.layer_features(layer) for prepared in prompts]
        device = of_layer[0].pos.device
        found = [
            torch.arange(idx * stride + of_prompt.start, idx * stride + of_prompt.stop, device=device)
            for idx, of_prompt in enumerate(ranges)
        ]
        nodes.append(torch.cat(found))
        active.append(_joined_activations(of_layer) if n_prompts > 1 else of_layer[0])
    return Joined(
        prompts=tuple(prompts),
        forward=_joined_pass(prompts) if n_prompts > 1 else prompts[0].forward,
        active=tuple(active),
        active_nodes=tuple(nodes),
        errors=_by_layer([prepared.errors for prepared in prompts]) if n_prompts > 1 else prompts[0].errors,
        n_pos=max(prepared.layout.n_pos for prepared in prompts),
        stride=stride,
    )


def _joined_activations(parts: Sequence[Activations]) -> Activations:
    return Activations(
        pos=torch.cat([part.pos * len(parts) + idx for idx, part in enumerate(parts)]),
        feature=torch.cat([part.feature for part in parts]),
        value=torch.cat([part.value for part in parts]),
    )


def _joined_pass(prompts: Sequence[Prepared]) -> FrozenPass:
    forwards = [prepared.forward for prepared in prompts]
    posts = [(forward.attention_post_scales, forward.mlp_post_scales) for forward in forwards]
    behind_attention, behind_mlp = ([post for post in found if post is not None] for found in zip(*posts, strict=True))
    # Where a shorter prompt has ended, scales are one and everything else zero: nothing comes of it.
    return FrozenPass(
        embedding=pad_sequence([forward.embedding for forward in forwards]).flatten(0, 1),
        stream_start=pad_sequence([forward.stream_start for forward in forwards]).flatten(0, 1),
        patterns=_padded_patterns([forward.patterns for forward in forwards]),
        attention_scales=_by_layer([forward.attention_scales for forward in forwards], padding=1.0),
        mlp_scales=_by_layer([forward.mlp_scales for forward in forwards], padding=1.0),
        attention_post_scales=_by_layer(behind_attention, padding=1.0) if behind_attention else None,
        mlp_post_scales=_by_layer(behind_mlp, padding=1.0) if behind_mlp else None,
        mlp_outputs=_by_layer([forward.mlp_outputs for forward in forwards]),
    )


def _by_layer(
    parts: Sequence[Float[Tensor, "layer _ *width"]], padding: float = 0.0
) -> Float[Tensor, "layer place *width"]:
    by_pos = pad_sequence([part.transpose(0, 1) for part in parts], padding_value=padding)
    return by_pos.flatten(0, 1).transpose(0, 1).contiguous()


def _padded_patterns(parts: Sequence[Float[Tensor, "layer head _ _"]]) -> Float[Tensor, "layer prompt head query key"]:
    longest = max(part.shape[-1] for part in parts)
    n_layers, n_heads = parts[0].shape[:2]
    patterns = parts[0].new_zeros(n_layers, len(parts), n_heads, longest, longest)
    for idx, part in enumerate(parts):
        patterns[:, idx, :, : part.shape[-1], : part.shape[-1]] = part
    return patterns
