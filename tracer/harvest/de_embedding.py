"""Which tokens excite a feature directly: token embeddings dotted with what its encoder reads of the stream.

The paths are two: from the embedding straight to the feature, and through the values and outputs (OV) of one attention
head in front of it, as if that head attended to the token alone. An SAE that reads what heads give (`attn_z`) has a
path through the values of each head of its layer, and none straight. Norms are pulled back at a scale of one, so
scores of one path compare with each other, as promoted logits do; biases are left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.errors import ModelError
from tracer.harvest.layer_features import LayerFeatures, by_layer, check_known, feature_tiles, layer_features
from tracer.harvest.promoted import N_TILE_VALUES, VocabularyTexts
from tracer.harvest.stable_top import stable_top
from tracer.model.dictionaries import Site
from tracer.model.forward_until import values_at
from tracer.model.replacement import ReplacementModel

DIRECT = -1
"""In the place of a head and its layer: the path straight from the embedding."""
N_EMBEDDED_AT_ONCE = 4096
STREAM_SITES: tuple[Site, ...] = ("resid_pre", "resid_mid", "resid_post")
EXCITED_SITES: tuple[Site, ...] = (*STREAM_SITES, "attn_z")
"""Sites of SAEs that embeddings excite: those that read the stream, and those that read what heads give."""
EXCITATION_SCHEMA = pl.Schema({
    "layer": pl.Int64(), "feature": pl.Int64(), "via_layer": pl.Int64(), "via_head": pl.Int64(),
    "score_sd": pl.Float64(), "tokens": pl.List(pl.String()), "token_scores": pl.List(pl.Float64()),
})  # fmt: skip


@torch.no_grad()
def embedding(model: ReplacementModel) -> Float[Tensor, "vocab d_model"]:
    """Every token's embedding as it enters the stream, scaled where the model scales it, without learned positions."""
    parts = torch.arange(model.weights.W_U.shape[1], device=model.device).split(N_EMBEDDED_AT_ONCE)
    return torch.cat([values_at(model, ["embed.hook_out"], part[:, None])["embed.hook_out"][:, 0] for part in parts])


def stream_reads(
    model: ReplacementModel, source: LayerFeatures, feature: Int[Tensor, " row"]
) -> Float[Tensor, "row d_model"]:
    """Encoder vectors of features of one layer as vectors that read the raw stream, at a norm scale of one.

    Raises:
        ModelError: SAEs that do not read the stream, or an architecture outside the table, whose norms are not known.
    """
    check_known(model)
    vectors = source.transcoder.encoder_rows(feature)
    if source.site is not None:
        if source.site not in STREAM_SITES:
            raise ModelError(
                f"SAE at {source.site} of layer {source.layer}", found="features that do not read the stream",
                expected=f"one of {', '.join(STREAM_SITES)}", to_do="Leave its de-embeddings out.",
            )  # fmt: skip
        return vectors
    norm = model.weights.layers[source.layer].mlp_norm
    if model.transcoders.read_point == "mlp_in":
        return norm.pull_back(vectors)
    return norm.centre(vectors) if model.transcoders.read_point == "normalised" else vectors


def heads_before(model: ReplacementModel, source: LayerFeatures) -> list[tuple[int, int]]:
    """(layer, head) of every attention head whose output features of one layer read."""
    is_behind = source.site not in (None, "resid_pre") or (source.site is None and not model.facts.parallel)
    return [(below, head) for below in range(source.layer + is_behind) for head in range(model.facts.n_heads)]


def through_head(
    model: ReplacementModel, reads: Float[Tensor, "row d_model"], head: tuple[int, int]
) -> Float[Tensor, "row d_model"]:
    """What reads the raw stream in front of a head's layer, where that head passes all of it on to `reads`."""
    layer, place = head
    weights = model.weights.layers[layer]
    kv_head = place // (model.facts.n_heads // weights.W_V.shape[0])
    return (reads @ weights.W_O[place].T) @ weights.W_V[kv_head]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEmbeddings:
    """All embeddings, and their covariance over the vocabulary, from which the spread of a path's scores follows."""

    values: Float[Tensor, "vocab d_model"]
    covariance: Float[Tensor, "d_model d_model"]

    @classmethod
    def of(cls, model: ReplacementModel) -> "TokenEmbeddings":
        """Those of a model."""
        values = embedding(model)
        mean, d_model = values.mean(0), values.shape[1]
        total = torch.zeros(d_model, d_model, dtype=torch.float64, device=values.device)
        for part in values.split(N_EMBEDDED_AT_ONCE):
            centred = (part - mean).double()
            total += centred.T @ centred
        return cls(values=values, covariance=(total / len(values)).to(values))

    def score_sd(self, reads: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
        """Standard deviation over the vocabulary of what reads give on embeddings."""
        return ((reads @ self.covariance) * reads).sum(-1).clamp(min=0).sqrt()


@torch.no_grad()
def feature_excitations(
    model: ReplacementModel, n_tokens: int, n_heads: int, sources: Sequence[LayerFeatures] | None = None
) -> Iterator[pl.DataFrame]:
    """Rows of the `feature_excitations` table for every feature, a tile of features at a time.

    Args:
        model: the model.
        n_tokens: tokens listed for each path; of equal scores the lower ids.
        n_heads: heads listed for each feature, those with the largest `score_sd`; of equal ones the lower.
        sources: whose features; those of the transcoders when not given.

    Raises:
        ModelError: as `stream_reads`.
    """
    embeddings, texts = TokenEmbeddings.of(model), VocabularyTexts(model)
    n_rows = N_TILE_VALUES // len(embeddings.values)
    for source, features in feature_tiles(layer_features(model) if sources is None else sources, n_rows):
        yield _Excited(model, source, features, embeddings, texts, n_tokens).rows(n_heads)


@torch.no_grad()
def excitations(
    model: ReplacementModel, features: Sequence[tuple[int, int]], *, n_tokens: int = 20, n_heads: int | None = None
) -> pl.DataFrame:
    """The same rows for some features of the transcoders, by feature, through every head where `n_heads` is not given.

    Args:
        model: the model.
        features: (layer, feature) pairs.
        n_tokens: tokens listed for each path.
        n_heads: heads listed for each feature.

    Raises:
        DataError: there is no such feature.
        ModelError: as `stream_reads`.
    """
    embeddings, texts = TokenEmbeddings.of(model), VocabularyTexts(model)
    listed = model.n_layers * model.facts.n_heads if n_heads is None else n_heads
    parts = [
        _Excited(model, source, chosen.unique(), embeddings, texts, n_tokens).rows(listed)
        for source, _, chosen in by_layer(layer_features(model), features)
    ]
    return pl.concat([EXCITATION_SCHEMA.to_frame(), *parts])


@dataclass(frozen=True, slots=True)
class _Excited:
    """Some features of one layer, and what their rows are made from."""

    model: ReplacementModel
    source: LayerFeatures
    features: Int[Tensor, " row"]
    embeddings: TokenEmbeddings
    texts: VocabularyTexts
    n_tokens: int

    def rows(self, n_heads: int) -> pl.DataFrame:
        """The direct path, and those through the heads with the widest spread of scores."""
        parts = [EXCITATION_SCHEMA.to_frame()]
        if self.source.site == "attn_z":
            heads = {(self.source.layer, head): self._of_head(head) for head in range(self.model.facts.n_heads)}
            spreads = [self.embeddings.score_sd(reads) for reads in heads.values()]
        else:
            direct = stream_reads(self.model, self.source, self.features)
            parts.append(self._path(self.features, (DIRECT, DIRECT), direct))
            heads = dict.fromkeys(heads_before(self.model, self.source), direct)
            spreads = [self.embeddings.score_sd(through_head(self.model, direct, head)) for head in heads]
        if spreads:
            chosen = stable_top(torch.stack(spreads, dim=1), n_heads)[1]
            for place, (head, reads) in enumerate(heads.items()):
                is_chosen = (chosen == place).any(1)
                if bool(is_chosen.any()):
                    some = reads[is_chosen]
                    through = some if self.source.site == "attn_z" else through_head(self.model, some, head)
                    parts.append(self._path(self.features[is_chosen], head, through))
        return pl.concat(parts).sort("feature", "via_layer", "via_head")

    def _of_head(self, head: int) -> Float[Tensor, "row d_model"]:
        """What encoders of heads side by side read of the stream in front of attention, through one head's values."""
        check_known(self.model)
        weights, n_heads = self.model.weights.layers[self.source.layer], self.model.facts.n_heads
        vectors = self.source.transcoder.encoder_rows(self.features).unflatten(1, (n_heads, -1))
        return vectors[:, head] @ weights.W_V[head // (n_heads // weights.W_V.shape[0])]

    def _path(
        self, features: Int[Tensor, " some"], head: tuple[int, int], reads: Float[Tensor, "some d_model"]
    ) -> pl.DataFrame:
        scores, token_ids = stable_top(reads @ self.embeddings.values.T, self.n_tokens)
        return pl.DataFrame(
            {
                "layer": [self.source.layer] * len(features),
                "feature": features.tolist(),
                "via_layer": [head[0]] * len(features),
                "via_head": [head[1]] * len(features),
                "score_sd": self.embeddings.score_sd(reads).tolist(),
                "tokens": self.texts.of(token_ids),
                "token_scores": scores.tolist(),
            },
            schema=EXCITATION_SCHEMA,
        )
