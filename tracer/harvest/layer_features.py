"""The features of a harvest by layer: those of the transcoders, or those of SAEs, one a layer, in their place."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.errors import DataError, ModelError
from tracer.model.dictionaries import Dictionary, Site
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFeatures:
    """Features that (layer, feature) names; `site` is where they read and write, None for transcoders."""

    layer: int
    transcoder: LayerTranscoder
    site: Site | None = None

    @property
    def n_features(self) -> int:
        """How many."""
        return len(self.transcoder.b_enc)


def layer_features(
    model: ReplacementModel, saes: Sequence[Dictionary] = (), layers: Sequence[int] | None = None
) -> tuple[LayerFeatures, ...]:
    """The features of a model's transcoders, or of SAEs where such are given, by layer.

    Args:
        model: the model.
        saes: at most one a layer.
        layers: of these alone; of all when not given.
    """
    if saes:
        found = [LayerFeatures(layer=sae.layer, transcoder=sae.transcoder, site=sae.site) for sae in saes]
    else:
        found = [LayerFeatures(layer=layer, transcoder=of) for layer, of in enumerate(model.transcoders.layers)]
    wanted = {source.layer for source in found} if layers is None else set(layers)
    return tuple(sorted((source for source in found if source.layer in wanted), key=lambda source: source.layer))


def feature_tiles(sources: Sequence[LayerFeatures], n_rows: int) -> Iterator[tuple[LayerFeatures, Int[Tensor, " row"]]]:
    """Every feature once, at most `n_rows` of one layer at a time."""
    for source in sources:
        every = torch.arange(source.n_features, device=source.transcoder.b_enc.device)
        for features in every.split(max(1, n_rows)):
            yield source, features


def by_layer(
    sources: Sequence[LayerFeatures], features: Sequence[tuple[int, int]]
) -> Iterator[tuple[LayerFeatures, Int[Tensor, " row"], Int[Tensor, " row"]]]:
    """Pairs (layer, feature) by layer, their places among the given, and their features.

    Raises:
        DataError: there is no such layer or feature.
    """
    of_layer = {source.layer: source for source in sources}
    pairs = torch.tensor(list(features), dtype=torch.long).reshape(-1, 2)
    for layer in pairs[:, 0].unique().tolist():
        places = (pairs[:, 0] == layer).nonzero()[:, 0]
        n_features = of_layer[layer].n_features if layer in of_layer else 0
        wrong = [feature for feature in pairs[places, 1].tolist() if not 0 <= feature < n_features]
        if wrong:
            raise DataError(
                f"feature {wrong[0]} of layer {layer}", found=f"{n_features} features there",
                expected="one of them", to_do="Check it against the transcoders.",
            )  # fmt: skip
        device = of_layer[layer].transcoder.b_enc.device
        yield of_layer[layer], places, pairs[places, 1].to(device)


def layer_directions(
    model: ReplacementModel, source: LayerFeatures, feature: Int[Tensor, " row"]
) -> Float[Tensor, "row d_model"]:
    """What features of one layer add to the stream per unit of activation, summed over the layers that each writes.

    Where a norm stands between the write point and the stream its weight is applied, at a scale of one; what heads
    give goes through their output matrices.

    Raises:
        ModelError: as `site_to_stream`.
    """
    transcoder = source.transcoder
    if source.site is not None:
        return site_to_stream(model, source.layer, source.site, transcoder.decoder_rows(feature, 0))
    weights = _post_weights(model, source.layer)
    total = model.weights.W_U.new_zeros(len(feature), model.facts.d_model)
    for written_idx in range(transcoder.n_written):
        total += transcoder.decoder_rows(feature, written_idx) * weights[written_idx]
    return total


def site_to_stream(
    model: ReplacementModel, layer: int, site: Site, vectors: Float[Tensor, "row width"]
) -> Float[Tensor, "row d_model"]:
    """Vectors at a site of a layer as what they add to the stream.

    Raises:
        ModelError: heads of an architecture outside the table, whose output matrices are not known.
    """
    if site != "attn_z":
        return vectors
    check_known(model)
    return vectors @ model.weights.layers[layer].W_O.flatten(0, 1)


def check_known(model: ReplacementModel) -> None:
    """Refuse an architecture whose norms and attention matrices are not known.

    Raises:
        ModelError: it is outside the table.
    """
    if not model.facts.explicit:
        raise ModelError(
            model.facts.architecture_name, found="an architecture outside the table of tracer.model.architectures",
            expected="one whose norms and attention matrices are known", to_do="Leave it out, or add it to the table.",
        )  # fmt: skip


def decoder_norms(source: LayerFeatures, feature: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
    """Norms of decoder vectors over all layers that features of one layer write."""
    transcoder = source.transcoder
    squares = [transcoder.decoder_rows(feature, idx).square().sum(-1) for idx in range(transcoder.n_written)]
    return torch.stack(squares).sum(0).sqrt()


def _post_weights(model: ReplacementModel, layer: int) -> Float[Tensor, "written d_model"]:
    n_written = model.transcoders.layers[layer].n_written
    ones = torch.ones_like(model.weights.final_norm.weight)
    if model.transcoders.write_point == "residual" or not model.facts.post_norms:
        return ones.expand(n_written, -1)
    written = model.weights.layers[layer : layer + n_written]
    return torch.stack([ones if found.mlp_post_weight is None else found.mlp_post_weight for found in written])
