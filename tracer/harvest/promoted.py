"""What a feature promotes: its write vector through the unembedding."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text

N_CHUNK = 256


def write_directions(model: ReplacementModel, features: Sequence[tuple[int, int]]) -> Float[Tensor, "feature d_model"]:
    """Decoder vectors of (layer, feature) pairs, summed over the layers that each writes."""
    return torch.stack([model.transcoders.layers[layer].W_dec[feature].sum(0) for layer, feature in features])


def promoted_logits(
    model: ReplacementModel, directions: Float[Tensor, "feature d_model"]
) -> Float[Tensor, "feature vocab"]:
    """Logits that directions in the stream add, demeaned over the vocabulary, at a last-norm scale of one.

    The last norm's weight (and centring) is applied, biases are left out.
    """
    norm, W_U = model.weights.final_norm, model.weights.W_U
    logits = (norm.centre(directions) * norm.weight) @ W_U
    return logits - logits.mean(-1, keepdim=True)


def promoted_tokens(
    model: ReplacementModel, features: Sequence[tuple[int, int]], n_tokens: int
) -> list[dict[str, Any]]:
    """Records of the `feature_logits` table: decoder norm, most promoted and most suppressed tokens per unit of
    activation.
    """
    records: list[dict[str, Any]] = []
    for start in range(0, len(features), N_CHUNK):
        chunk = features[start : start + N_CHUNK]
        logits = promoted_logits(model, write_directions(model, chunk))
        n_shown = min(n_tokens, logits.shape[1])
        top, bottom = logits.topk(n_shown), logits.topk(n_shown, largest=False)
        for place, (layer, feature) in enumerate(chunk):
            records.append({
                "layer": layer,
                "feature": feature,
                "decoder_norm": float(model.transcoders.layers[layer].W_dec[feature].norm()),
                "top_tokens": [token_text(model.tokenizer, int(idx)) for idx in top.indices[place]],
                "top_token_logits": top.values[place].tolist(),
                "bottom_tokens": [token_text(model.tokenizer, int(idx)) for idx in bottom.indices[place]],
                "bottom_token_logits": bottom.values[place].tolist(),
            })
    return records
