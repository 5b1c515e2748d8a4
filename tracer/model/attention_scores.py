"""Queries and keys of one prompt as linear maps of the raw stream, with everything that bends them frozen.

A head's score at a query and a key position, before soft cap and mask, is `scale * q . k`, where `q` and `k` are
projections of the normalised stream in front of attention, normalised again in some architectures, and turned by the
angles of their positions where these are rotary. With the scales of all norms frozen each is a linear map of the stream
at its position, plus a constant. Angles and scales are taken from the model's own forward pass, so that every variant
of rotary positions counts as the model computes it.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.errors import ModelError
from tracer.model.forward import Forward, Hook
from tracer.model.replacement import ReplacementModel
from tracer.model.weights import float32, norm_weights

MAX_PATTERN_DIFFERENCE = 1e-3
"""How far attention from these maps may be from the captured one, as a ratio to a row's largest entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """Queries or keys of one layer: `turned((W stream[pos] / stream_scale[pos] + bias) / norm_scale[head, pos])`."""

    W: Float[Tensor, "head d_head d_model"]
    """Reads the raw stream: the norm in front of attention, and the weight of one behind the projection, are part of
    it.
    """
    bias: Float[Tensor, "head d_head"]
    stream_scale: Float[Tensor, " pos"]
    norm_scale: Float[Tensor, "head pos"] | None
    """Scale of a norm behind the projection."""
    cos: Float[Tensor, "pos d_rotary"] | None
    sin: Float[Tensor, "pos d_rotary"] | None
    """Rotary angles of the first dimensions, for both halves of them."""

    def map_at(self, head: int, pos: int) -> tuple[Float[Tensor, "d_head d_model"], Float[Tensor, " d_head"]]:
        """Matrix and constant that give the vector at a position from the raw stream there."""
        vectors = self._finish(self.W[head].T / self.stream_scale[pos], head, pos).T
        return vectors, self._finish(self.bias[head], head, pos)

    def values(self, head: int, stream: Float[Tensor, "pos d_model"]) -> Float[Tensor, "pos d_head"]:
        """The vectors at all positions."""
        raw = stream / self.stream_scale[:, None] @ self.W[head].T + self.bias[head]
        return self._finish(raw, head, slice(None))

    def _finish(
        self, raw: Float[Tensor, "*batch d_head"], head: int, pos: int | slice
    ) -> Float[Tensor, "*batch d_head"]:
        if self.norm_scale is not None:
            raw = raw / self.norm_scale[head, pos][..., None]
        if self.cos is None or self.sin is None:
            return raw
        cos, sin = self.cos[pos], self.sin[pos]
        turned, passed = raw.tensor_split([cos.shape[-1]], dim=-1)
        first, second = turned.chunk(2, dim=-1)
        return torch.cat([turned * cos + torch.cat([-second, first], dim=-1) * sin, passed], dim=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionScores:
    """What one layer's attention scores are made of, on one prompt."""

    layer: int
    stream: Float[Tensor, "pos d_model"]
    """The raw stream in front of the layer."""
    query: Projection
    key: Projection
    scale: float
    softcap: float | None
    """The bound that scores are squashed to by a hyperbolic tangent before the mask; None where they are not."""

    def key_head(self, head: int) -> int:
        """The key head that a query head is compared with."""
        return head // (len(self.query.W) // len(self.key.W))

    def at(self, head: int, query_pos: int) -> Float[Tensor, " key"]:
        """A head's scores of one query with the keys at all positions, before soft cap and mask."""
        vectors, constant = self.query.map_at(head, query_pos)
        query = vectors @ self.stream[query_pos] + constant
        return self.scale * self.key.values(self.key_head(head), self.stream) @ query

    def capped(self, scores: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Scores behind the soft cap."""
        return scores if self.softcap is None else self.softcap * torch.tanh(scores / self.softcap)

    def check(self, forward: Forward, head: int, query_pos: int) -> None:
        """Compare with the captured pattern, of which mask and attention sinks only change the sum.

        Raises:
            ModelError: the model computes its attention in another way.
        """
        pattern, scores = forward.patterns[self.layer, head, query_pos], self.capped(self.at(head, query_pos))
        top = pattern.argmax()
        expected, found = pattern / pattern[top], (scores - scores[top]).exp()
        difference = float(torch.where(pattern > 0, found - expected, 0.0).abs().max())
        if not difference <= MAX_PATTERN_DIFFERENCE:
            raise ModelError(
                f"attention of layer {self.layer}, head {head}",
                found=f"a pattern that differs by {difference:.1e} from what queries and keys give",
                expected="scores of scaled dot products",
                to_do="QK attribution does not know this kind of attention.",
            )


@torch.no_grad()
def attention_scores(model: ReplacementModel, forward: Forward, layers: list[int]) -> dict[int, AttentionScores]:
    """What the scores of some layers are made of, from one more pass of the model over the prompt.

    Raises:
        ModelError: the architecture is not in the table, or its attention does not say how it scales scores.
    """
    if not model.facts.explicit:
        raise ModelError(
            model.facts.architecture_name, found="an architecture outside the table",
            expected="one whose norms and angles are known",
            to_do="QK attribution needs them; add the architecture to the table.",
        )  # fmt: skip
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Hook:
        def hook_function(value: Tensor, hook: Any) -> None:
            kept[name] = value[0]

        return name, hook_function

    offered = model.bridge.hook_dict
    names = ["attn.hook_cos", "attn.hook_sin", "attn.q_norm.hook_scale", "attn.k_norm.hook_scale", "hook_in"]
    every = [f"blocks.{layer}.{name}" for layer in layers for name in names]
    with model.hooks([keep(name) for name in every if name in offered]) as bridge:
        bridge(forward.token_ids[None])
    return {layer: _layer_scores(model, forward, layer, kept) for layer in layers}


def _layer_scores(model: ReplacementModel, forward: Forward, layer: int, kept: dict[str, Tensor]) -> AttentionScores:
    attention: Any = model.bridge.blocks[layer].attn
    scale = getattr(attention.original_component, "scaling", None)
    if scale is None:
        raise ModelError(
            f"attention of layer {layer}", found="no attribute `scaling`",
            expected="the factor that scores are multiplied with", to_do="Use a version of transformers that has it.",
        )  # fmt: skip
    return AttentionScores(
        layer=layer,
        stream=kept[f"blocks.{layer}.hook_in"],
        query=_projection(model, forward, layer, "Q", kept),
        key=_projection(model, forward, layer, "K", kept),
        scale=float(scale),
        softcap=getattr(attention.original_component, "attn_logit_softcapping", None),
    )


def _projection(
    model: ReplacementModel, forward: Forward, layer: int, letter: str, kept: dict[str, Tensor]
) -> Projection:
    architecture, block = model.facts.architecture, cast("Any", model.bridge.blocks[layer])
    assert architecture is not None, "refused before"
    centred, offset, prefix = architecture.centred_norm, architecture.norm_offset, f"blocks.{layer}.attn."
    norm = norm_weights(block.ln1, centred, offset)
    W, bias = float32(getattr(block.attn, f"W_{letter}")), getattr(block.attn, f"b_{letter}", None)
    constant = torch.einsum("kdh,d->kh", W, norm.bias) + (0.0 if bias is None else float32(bias))
    W = norm.pull_back(W.transpose(1, 2))
    norm_scale = kept.get(f"{prefix}{letter.lower()}_norm.hook_scale")
    if norm_scale is not None:
        weight = norm_weights(getattr(block.attn, f"{letter.lower()}_norm"), centred, offset).weight
        W, constant, norm_scale = W * weight[:, None], constant * weight, norm_scale[..., 0]
    cos, sin = kept.get(f"{prefix}hook_cos"), kept.get(f"{prefix}hook_sin")
    if cos is not None and sin is not None and not architecture.rotary_halves:
        cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([sin, sin], dim=-1)
    return Projection(
        W=W, bias=constant, stream_scale=forward.attention_scales[layer], norm_scale=norm_scale, cos=cos, sin=sin
    )
