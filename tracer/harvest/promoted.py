"""What features promote: their write vectors through the unembedding, for all features a tile at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.harvest.layer_features import (
    LayerFeatures,
    by_layer,
    decoder_norms,
    feature_tiles,
    layer_directions,
    layer_features,
)
from tracer.harvest.stable_top import stable_top
from tracer.model.replacement import ReplacementModel
from tracer.model.tokenizer import token_text

N_TILE_VALUES = 2**24
"""Values of a tile of features and tokens, or of features and features: 64 MB of float32."""


def write_directions(
    model: ReplacementModel, features: Sequence[tuple[int, int]], sources: Sequence[LayerFeatures] | None = None
) -> Float[Tensor, "feature d_model"]:
    """What (layer, feature) pairs add to the stream (`layer_directions`), those of the transcoders unless told."""
    directions = model.weights.W_U.new_zeros(len(features), model.facts.d_model)
    for source, places, chosen in by_layer(layer_features(model) if sources is None else sources, features):
        directions[places] = layer_directions(model, source, chosen)
    return directions


def promoted_logits(
    model: ReplacementModel, directions: Float[Tensor, "feature d_model"]
) -> Float[Tensor, "feature vocab"]:
    """Logits that directions in the stream add, demeaned over the vocabulary, at a last-norm scale of one.

    The last norm's weight (and centring) is applied, biases are left out.
    """
    norm, W_U = model.weights.final_norm, model.weights.W_U
    logits = (norm.centre(directions) * norm.weight) @ W_U
    return logits - logits.mean(-1, keepdim=True)


class VocabularyTexts:
    """The raw texts of tokens, decoded once each."""

    def __init__(self, model: ReplacementModel) -> None:
        self._tokenizer = model.tokenizer
        self._texts: dict[int, str] = {}

    def of(self, token_ids: Int[Tensor, "row place"]) -> list[list[str]]:
        """Texts in the shape of their ids."""
        rows = token_ids.tolist()
        for token_id in {idx for row in rows for idx in row} - self._texts.keys():
            self._texts[token_id] = token_text(self._tokenizer, token_id)
        return [[self._texts[idx] for idx in row] for row in rows]


LOGITS_SCHEMA = pl.Schema({
    "layer": pl.Int64(), "feature": pl.Int64(), "decoder_norm": pl.Float64(),
    "top_tokens": pl.List(pl.String()), "top_token_logits": pl.List(pl.Float64()),
    "bottom_tokens": pl.List(pl.String()), "bottom_token_logits": pl.List(pl.Float64()),
})  # fmt: skip


@torch.no_grad()
def feature_logits(
    model: ReplacementModel, n_tokens: int, sources: Sequence[LayerFeatures] | None = None
) -> Iterator[pl.DataFrame]:
    """Rows of the `feature_logits` table for every feature of every layer, a tile of features at a time.

    Args:
        model: the model; decoders left on disk are read once.
        n_tokens: tokens listed at either end; of equal logits the lower ids.
        sources: whose features; those of the transcoders when not given.
    """
    texts, n_rows = VocabularyTexts(model), N_TILE_VALUES // model.weights.W_U.shape[1]
    for source, features in feature_tiles(layer_features(model) if sources is None else sources, n_rows):
        yield _logit_rows(model, source, features, n_tokens, texts)


@torch.no_grad()
def promoted_tokens(
    model: ReplacementModel, features: Sequence[tuple[int, int]], n_tokens: int
) -> list[dict[str, Any]]:
    """Records of the `feature_logits` table for some features, in their order: decoder norm, most promoted and most
    suppressed tokens per unit of activation.
    """
    texts, n_rows = VocabularyTexts(model), max(1, N_TILE_VALUES // model.weights.W_U.shape[1])
    records: list[dict[str, Any]] = [{}] * len(features)
    for source, places, chosen in by_layer(layer_features(model), features):
        for some, tile in zip(places.split(n_rows), chosen.split(n_rows), strict=True):
            rows = _logit_rows(model, source, tile, n_tokens, texts).to_dicts()
            for place, record in zip(some.tolist(), rows, strict=True):
                records[place] = record
    return records


def _logit_rows(
    model: ReplacementModel, source: LayerFeatures, features: Int[Tensor, " row"], n_tokens: int, texts: VocabularyTexts
) -> pl.DataFrame:
    logits = promoted_logits(model, layer_directions(model, source, features))
    return pl.DataFrame(
        {
            "layer": [source.layer] * len(features),
            "feature": features.tolist(),
            "decoder_norm": decoder_norms(source, features).tolist(),
            **token_columns(logits, n_tokens, texts),
        },
        schema=LOGITS_SCHEMA,
    )


def token_columns(logits: Float[Tensor, "row vocab"], n_tokens: int, texts: VocabularyTexts) -> dict[str, list[Any]]:
    """The tokens with the largest and the smallest logits of each row, as columns of the `feature_logits` table."""
    top, top_ids = stable_top(logits, n_tokens)
    bottom, bottom_ids = stable_top(-logits, n_tokens)
    return {
        "top_tokens": texts.of(top_ids),
        "top_token_logits": top.tolist(),
        "bottom_tokens": texts.of(bottom_ids),
        "bottom_token_logits": (-bottom).tolist(),
    }
