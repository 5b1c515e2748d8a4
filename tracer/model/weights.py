"""The weights of the frozen linear map: what attention and the norms do to a vector once patterns and scales are fixed.

With attention patterns and norm scales frozen (Ameisen et al. 2025), the stream between two MLPs is linear. Each norm
then is a fixed linear map: centre (LayerNorm only), divide by the frozen scale, multiply by the weight, add the bias.
The centring and the weight are folded into the matrices here, once; only the scale remains to be applied.
"""

from dataclasses import dataclass
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

    def centre(self, vectors: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The same without the weight."""
        return vectors - vectors.mean(-1, keepdim=True) if self.centred else vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """One layer's attention with its norm folded in, and the norm in front of the MLP."""

    W_V: Float[Tensor, "kv_head d_head d_model"]
    """Reads the stream divided by the scale of the norm in front of attention."""
    W_O: Float[Tensor, "head d_head d_model"]
    attention_bias: Float[Tensor, " d_model"]
    """What attention adds at every position whatever the stream: biases of value, output and norm."""
    mlp_norm: NormWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenWeights:
    """All layers, the last norm and the unembedding."""

    layers: tuple[LayerWeights, ...]
    final_norm: NormWeights
    W_U: Float[Tensor, "d_model vocab"]
    b_U: Float[Tensor, " vocab"]

    def demeaned_unembedding(self, token_ids: Tensor) -> Float[Tensor, "target d_model"]:
        """Unembedding columns minus their mean over the vocabulary."""
        return self.W_U[:, token_ids].T - self.W_U.mean(1)


def _norm_weights(norm: torch.nn.Module, centred: bool) -> NormWeights:
    weight = cast("Tensor", norm.weight).detach()
    bias = getattr(norm, "bias", None) if centred else None
    return NormWeights(weight=weight, bias=torch.zeros_like(weight) if bias is None else bias.detach(), centred=centred)


def _bias(attention: torch.nn.Module, name: str, like: Tensor) -> Tensor:
    bias = getattr(attention, name, None)
    return torch.zeros_like(like) if bias is None else bias.detach()


def frozen_weights(bridge: "TransformerBridge", *, centred: bool) -> FrozenWeights:
    """Read the weights off a bridge and fold the norms in.

    Args:
        bridge: the booted model, raw weights.
        centred: whether its norms centre (LayerNorm) or not (RMSNorm).
    """
    layers = []
    for block in bridge.blocks:
        W_V, W_O = block.attn.W_V.detach(), block.attn.W_O.detach()
        norm = _norm_weights(block.ln1, centred)
        b_V = _bias(block.attn, "b_V", W_V[:, 0])
        # Rows of an attention pattern sum to one, so a constant value arrives unchanged at every position.
        constant_value = torch.einsum("kdh,d->kh", W_V, norm.bias) + b_V
        n_heads_per_kv = W_O.shape[0] // W_V.shape[0]
        constant_value = constant_value.repeat_interleave(n_heads_per_kv, dim=0)
        attention_bias = torch.einsum("he,hed->d", constant_value, W_O) + _bias(block.attn, "b_O", W_O[0, 0])
        layers.append(
            LayerWeights(
                W_V=norm.pull_back(W_V.transpose(1, 2)),
                W_O=W_O,
                attention_bias=attention_bias,
                mlp_norm=_norm_weights(block.ln2, centred),
            )
        )
    W_U = bridge.W_U.detach()
    b_U = getattr(bridge, "b_U", None)
    return FrozenWeights(
        layers=tuple(layers),
        final_norm=_norm_weights(bridge.ln_final, centred),
        W_U=W_U,
        b_U=torch.zeros_like(W_U[0]) if b_U is None else b_U.detach(),
    )
