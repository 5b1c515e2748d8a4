"""What can be scored on tokens: features of the transcoders, features of SAEs, and directions at a place of a layer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.errors import DataError
from tracer.model.dictionaries import SITE_HOOKS, Dictionary, Site
from tracer.model.nonlinearity import JumpReLU, TopK
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder

ScoredBy = Literal["activation", "pre_activation", "encoder", "decoder"]
"""`activation`: behind the nonlinearity; `pre_activation`: in front of it; `encoder`: the same without the encoder's
bias; `decoder`: what the place that the feature writes first holds along the decoder vector there.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DictionaryFeature:
    """A feature of an SAE."""

    dictionary: Dictionary
    feature: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """A direction at a place of one layer; its score is the dot product, whatever features are scored by."""

    layer: int
    site: Site
    vector: Float[Tensor, " width"]


Scored = tuple[int, int] | DictionaryFeature | Direction
"""A feature (layer, feature) of the model's transcoders, or one of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Scores of some features that read one place with one encoder, or of directions there.

    `columns` are their places among what was asked for; either `features` of `transcoder` or `vectors` give scores.
    """

    hook: str
    columns: tuple[int, ...]
    transcoder: LayerTranscoder | None = None
    features: tuple[int, ...] = ()
    by: ScoredBy = "encoder"
    vectors: Float[Tensor, "column width"] | None = None

    def scores(self, values: Float[Tensor, "pos width"]) -> Float[Tensor, "pos column"]:
        """Scores of values at the hook."""
        if self.vectors is not None:
            return values @ self.vectors.T
        assert self.transcoder is not None, "features of a transcoder"
        chosen = torch.tensor(self.features, device=values.device)
        if self.by == "activation":
            return encode_some(self.transcoder, values, chosen)
        scores = values @ self.transcoder.encoder_rows(chosen).T
        return scores + self.transcoder.b_enc[chosen] if self.by == "pre_activation" else scores


def encode_some(
    transcoder: LayerTranscoder, values: Float[Tensor, "pos width"], chosen: Int[Tensor, " column"]
) -> Float[Tensor, "pos column"]:
    """Activations of some features, dense; the others are computed only where they decide which are active."""
    nonlinearity = transcoder.nonlinearity
    if isinstance(nonlinearity, TopK):
        return transcoder.encode(values)[..., chosen]
    pre_activations = values @ transcoder.encoder_rows(chosen).T + transcoder.b_enc[chosen]
    if isinstance(nonlinearity, JumpReLU):
        nonlinearity = JumpReLU(nonlinearity.threshold[chosen])
    return nonlinearity.apply(pre_activations)


def readings(model: ReplacementModel, scored: Sequence[Scored], by: ScoredBy) -> list[Reading]:
    """What has to be read for all that is scored, each encoder once.

    Raises:
        DataError: there is no such layer, feature or place, or a direction is of another width.
    """
    groups: dict[tuple[str, int], tuple[LayerTranscoder, dict[int, int]]] = {}
    found: list[Reading] = []
    for column, item in enumerate(scored):
        if isinstance(item, Direction):
            found.append(_of_direction(model, item, column))
            continue
        transcoder, feature, read_hook, write_hook = _home(model, item)
        if by == "decoder":
            vector = transcoder.decoder_rows(torch.tensor([feature], device=model.device), 0)
            found.append(Reading(hook=write_hook, columns=(column,), vectors=vector))
        else:
            groups.setdefault((read_hook, id(transcoder)), (transcoder, {}))[1][column] = feature
    for (hook, _), (transcoder, features) in groups.items():
        columns = tuple(features)
        found.append(
            Reading(hook=hook, columns=columns, transcoder=transcoder, features=tuple(features.values()), by=by)
        )
    return found


def _home(model: ReplacementModel, item: tuple[int, int] | DictionaryFeature) -> tuple[LayerTranscoder, int, str, str]:
    """The encoder of a feature, its index there, and the hooks where it reads and where it writes first."""
    if isinstance(item, DictionaryFeature):
        dictionary = item.dictionary
        _check(item.feature, len(dictionary.transcoder.b_enc), f"SAE of {dictionary.hook}", "feature")
        return dictionary.transcoder, item.feature, dictionary.hook, dictionary.hook
    layer, feature = item
    _check(layer, model.n_layers, "feature to score", "layer")
    _check(feature, model.transcoders.n_features[layer], f"feature to score of layer {layer}", "feature")
    return model.transcoders.layers[layer], feature, model.hook_names.read(layer), model.hook_names.write(layer)


def _of_direction(model: ReplacementModel, item: Direction, column: int) -> Reading:
    _check(item.layer, model.n_layers, "direction to score", "layer")
    facts = model.facts
    width = facts.n_heads * facts.d_head if item.site == "attn_z" else facts.d_model
    if tuple(item.vector.shape) != (width,):
        raise DataError(
            f"direction at {item.site} of layer {item.layer}", found=f"shape {tuple(item.vector.shape)}",
            expected=f"({width},)", to_do="Give a vector as wide as what the place holds.",
        )  # fmt: skip
    vectors = item.vector.to(device=model.device, dtype=torch.float32)[None]
    return Reading(hook=f"blocks.{item.layer}.{SITE_HOOKS[item.site]}", columns=(column,), vectors=vectors)


def _check(idx: int, n: int, where: str, what: str) -> None:
    if not 0 <= idx < n:
        to_do = "Check it against the model and its dictionaries."
        raise DataError(where, found=f"{what} {idx}", expected=f"0 to {n - 1}", to_do=to_do)
