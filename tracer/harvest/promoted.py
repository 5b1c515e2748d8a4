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
    """What (layer, feature) pairs add to the stream, summed over the layers that each writes.

    Where a norm stands between the write point and the stream its weight is applied, at a scale of one.
    """
    return torch.stack([
        (_write_vectors(model, layer, feature) * _post_weights(model, layer)).sum(0) for layer, feature in features
    ])


def _write_vectors(model: ReplacementModel, layer: int, feature: int) -> Float[Tensor, "written d_model"]:
    transcoder = model.transcoders.layers[layer]
    return transcoder.write_vectors(torch.tensor([feature], device=model.device))[0]


def _post_weights(model: ReplacementModel, layer: int) -> Float[Tensor, "written d_model"]:
    ones = torch.ones_like(model.weights.final_norm.weight)
    if model.transcoders.write_point == "residual" or not model.facts.post_norms:
        return ones[None]
    written = model.weights.layers[layer : layer + model.transcoders.layers[layer].n_written]
    return torch.stack([ones if found.mlp_post_weight is None else found.mlp_post_weight for found in written])


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
                "decoder_norm": float(_write_vectors(model, layer, feature).norm()),
                "top_tokens": [token_text(model.tokenizer, int(idx)) for idx in top.indices[place]],
                "top_token_logits": top.values[place].tolist(),
                "bottom_tokens": [token_text(model.tokenizer, int(idx)) for idx in bottom.indices[place]],
                "bottom_token_logits": bottom.values[place].tolist(),
            })
    return records
