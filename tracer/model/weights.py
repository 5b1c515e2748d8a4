"""The weights of the frozen linear map: what attention and the norms do to a vector once patterns and scales are fixed.

With attention patterns and norm scales frozen (Ameisen et al. 2025), the stream between two MLPs is linear. Each norm
then is a fixed linear map: centre (LayerNorm only), divide by the frozen scale, multiply by the weight, add the bias.
The centring and the weight are folded into the matrices here, once; only the scale remains to be applied. The map is
float32 whatever the precision of the model: its weights are taken to float32 before anything is folded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True, slots=True, kw_only=True)
class NormWeights:
    """A normalisation's affine part, and whether it centres."""

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool

    def pull_back(self, vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Vectors that read the norm's output, as vectors that read its input divided by the frozen scale."""
        return self.centre(vectors * self.weight)

    def push(self, vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the norm makes of parts of its input divided by the frozen scale; its bias is left out."""
        return self.centre(vectors) * self.weight

    def centre(self, vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The same without the weight."""
        return vectors - vectors.mean(-1, keepdim=True) if self.centred else vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One layer's attention with its norms folded in, and the norms around the MLP."""

    W_V: Float[Tensor, "kv_head d_head d_model"]
    """Reads the stream divided by the scale of the norm in front of attention."""
    W_O: Float[Tensor, "head d_head d_model"]
    """Writes what is added to the stream, to be divided by the scale of a norm behind attention where there is one."""
    head_bias: Float[Tensor, "head d_model"]
    """What each head writes whatever the stream, where its pattern sums to one: biases of value and norm."""
    output_bias: Float[Tensor, " d_model"]
    """What the output bias adds to the stream, to be divided like what `W_O` writes."""
    adds_constant: bool
    """Whether any of these biases is not zero."""
    mlp_norm: NormWeights
    mlp_post_weight: Float[Tensor, " d_model"] | None
    """Weight of a norm behind the MLP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenWeights:
    """All layers, the last norm and the unembedding."""

    layers: tuple[LayerWeights, ...]
    final_norm: NormWeights
    W_U: Float[Tensor, "d_model vocab"]
    b_U: Float[Tensor, " vocab"]
    mean_unembedding: Float[Tensor, " d_model"]
    """Mean of the unembedding's columns over the vocabulary: reading all of them for every prompt would be slow."""

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of them."""
        norms = [self.final_norm, *(layer.mlp_norm for layer in self.layers)]
        holders: list[FrozenWeights | LayerWeights | NormWeights] = [self, *self.layers, *norms]
        for holder in holders:
            found = [getattr(holder, field.name) for field in fields(holder)]
            yield from (value for value in found if isinstance(value, Tensor))

    def demeaned_unembedding(self, token_ids: Tensor) -> Float[Tensor, "target d_model"]:
        """Unembedding columns minus their mean over the vocabulary."""
        return self.W_U[:, token_ids].T - self.mean_unembedding


def norm_weights(norm: torch.nn.Module, centred: bool, offset: float) -> NormWeights:
    """A norm's affine part; `offset` is what is added to its stored weight."""
    weight = float32(norm.weight) + offset if offset else float32(norm.weight)
    bias = getattr(norm, "bias", None) if centred else None
    return NormWeights(weight=weight, bias=torch.zeros_like(weight) if bias is None else float32(bias), centred=centred)


def float32(parameter: object) -> Tensor:
    """A parameter in float32 without gradients; the same memory where it is float32."""
    return cast("Tensor", parameter).detach().float()


def _bias(attention: torch.nn.Module, name: str, like: Tensor) -> Tensor:
    bias = getattr(attention, name, None)
    return torch.zeros_like(like) if bias is None else float32(bias)


def _layer_weights(block: torch.nn.Module, *, centred: bool, norm_offset: float, post_norms: bool) -> LayerWeights:
    attention = cast("torch.nn.Module", block.attn)

    def norm(name: str) -> NormWeights:
        return norm_weights(getattr(block, name), centred, norm_offset)

    W_V, W_O = float32(attention.W_V), float32(attention.W_O)
    attention_norm, output_bias = norm("ln1"), _bias(attention, "b_O", W_O[0, 0])
    value_bias = torch.einsum("kdh,d->kh", W_V, attention_norm.bias) + _bias(attention, "b_V", W_V[:, 0])
    if post_norms:
        post_weight = norm("ln1_post").weight
        W_O, output_bias = W_O * post_weight, output_bias * post_weight
    value_bias = value_bias.repeat_interleave(W_O.shape[0] // W_V.shape[0], dim=0)
    return LayerWeights(
        W_V=attention_norm.pull_back(W_V.transpose(1, 2)).contiguous(),
        W_O=W_O,
        head_bias=torch.einsum("he,hed->hd", value_bias, W_O),
        output_bias=output_bias,
        adds_constant=bool(value_bias.any() or output_bias.any()),
        mlp_norm=norm("ln2"),
        mlp_post_weight=norm("ln2_post").weight if post_norms else None,
    )


def frozen_weights(
    bridge: "TransformerBridge", *, centred: bool, norm_offset: float = 0.0, post_norms: bool = False
) -> FrozenWeights:
    """Read the weights off a bridge and fold the norms in.

    Args:
        bridge: the booted model, raw weights.
        centred: whether its norms centre (LayerNorm) or not (RMSNorm).
        norm_offset: what is added to a norm's stored weight (1 in Gemma).
        post_norms: whether norms stand behind attention and MLP too; they must not centre.
    """
    assert not (centred and post_norms), "a centring norm behind attention is not folded"
    layers = [
        _layer_weights(block, centred=centred, norm_offset=norm_offset, post_norms=post_norms)
        for block in bridge.blocks
    ]
    W_U = float32(bridge.W_U)
    b_U = getattr(bridge, "b_U", None)
    return FrozenWeights(
        layers=tuple(layers),
        final_norm=norm_weights(bridge.ln_final, centred, norm_offset),
        W_U=W_U,
        b_U=torch.zeros_like(W_U[0]) if b_U is None else float32(b_U),
        mean_unembedding=W_U.mean(1),
    )
