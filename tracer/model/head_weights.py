"""The last norm and the unembedding of an architecture outside the table, as far as the bridge describes them."""

from typing import TYPE_CHECKING, Any

import torch

from tracer.model.weights import FrozenWeights, NormWeights, float32

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge


def head_weights(bridge: "TransformerBridge") -> FrozenWeights:
    """Weights without a single layer: enough to say which tokens a direction promotes, not to attribute."""
    norm: Any = bridge.ln_final
    W_U, b_U = float32(bridge.W_U), getattr(bridge, "b_U", None)
    weight = getattr(norm.original_component, "weight", None)
    weight = torch.ones_like(W_U[:, 0]) if weight is None else float32(weight)
    bias = getattr(norm.original_component, "bias", None)
    return FrozenWeights(
        layers=(),
        final_norm=NormWeights(
            weight=weight + 1.0 if getattr(bridge.cfg, "rmsnorm_uses_offset", False) else weight,
            bias=torch.zeros_like(weight) if bias is None else float32(bias),
            centred=not norm.uses_rms_norm,
        ),
        W_U=W_U,
        b_U=torch.zeros_like(W_U[0]) if b_U is None else float32(b_U),
        mean_unembedding=W_U.mean(1),
    )
