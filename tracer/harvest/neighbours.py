"""Which features write alike: the largest cosines of write directions, within a layer and across layers.

A feature's direction is what it adds to the stream, summed over the layers that it writes (`layer_directions`): the
same vector whose logits are listed. No more than two tiles of directions and their product are held at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.harvest.layer_features import LayerFeatures, feature_tiles, layer_directions, layer_features
from tracer.harvest.promoted import N_TILE_VALUES
from tracer.harvest.stable_top import stable_top
from tracer.model.replacement import ReplacementModel

NEIGHBOUR_SCHEMA = pl.Schema({
    "layer": pl.Int64, "feature": pl.Int64, "scope": pl.String, "rank": pl.Int64, "neighbour_layer": pl.Int64,
    "neighbour_feature": pl.Int64, "cosine": pl.Float64,
})  # fmt: skip
WITHIN, ACROSS = "within", "across"
"""Scopes: neighbours of the same layer, and of all other layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Best:
    """The best neighbours so far, largest cosine first; a place not taken has the cosine minus infinity."""

    cosine: Float[Tensor, "row place"]
    layer: Int[Tensor, "row place"]
    feature: Int[Tensor, "row place"]

    @classmethod
    def none(cls, n_rows: int, device: torch.device) -> "_Best":
        nothing = torch.zeros(n_rows, 0, dtype=torch.long, device=device)
        return cls(cosine=nothing.float(), layer=nothing, feature=nothing)

    def with_tile(
        self, cosine: Float[Tensor, "row other"], layer: int, features: Int[Tensor, " other"], n: int
    ) -> "_Best":
        """The best among these and the others, which come after them in the order of (layer, feature)."""
        top, column = stable_top(cosine, n)
        kept, place = stable_top(torch.cat([self.cosine, top], dim=1), n)
        feature = torch.cat([self.feature, features[column]], dim=1)
        of_layer = torch.cat([self.layer, torch.full_like(column, layer)], dim=1)
        return _Best(cosine=kept, layer=of_layer.gather(1, place), feature=feature.gather(1, place))


@torch.no_grad()
def feature_neighbours(
    model: ReplacementModel,
    n_neighbours: int,
    sources: Sequence[LayerFeatures] | None = None,
    *,
    n_rows: int | None = None,
) -> Iterator[pl.DataFrame]:
    """Rows of the `feature_neighbours` table, a tile of features at a time; time grows with their number squared.

    A feature that writes nothing has no direction, so it has no neighbours and is nobody's.

    Args:
        model: the model; decoders left on disk are read once for every tile.
        n_neighbours: most neighbours of a feature in each scope; of equal cosines the lower (layer, feature).
        sources: whose features; those of the transcoders when not given.
        n_rows: features of a tile; as many as `N_TILE_VALUES` allows when not given.
    """
    n_rows = int(N_TILE_VALUES**0.5) if n_rows is None else n_rows
    sources = layer_features(model) if sources is None else sources
    for source, features in feature_tiles(sources, n_rows):
        directions = _unit_directions(model, source, features)
        best = {scope: _Best.none(len(features), model.device) for scope in (WITHIN, ACROSS)}
        for other, others in feature_tiles(sources, n_rows):
            other_directions = _unit_directions(model, other, others)
            cosine = directions @ other_directions.T
            cosine[:, ~other_directions.any(1)] = -torch.inf
            scope = WITHIN if other.layer == source.layer else ACROSS
            if scope == WITHIN:
                cosine[features[:, None] == others] = -torch.inf
            best[scope] = best[scope].with_tile(cosine, other.layer, others, n_neighbours)
        is_there = directions.any(1)
        yield pl.concat([_rows(source.layer, features, is_there, scope, found) for scope, found in best.items()]).sort(
            "layer", "feature", "scope", "rank", descending=[False, False, True, False]
        )


def _unit_directions(
    model: ReplacementModel, source: LayerFeatures, features: Int[Tensor, " row"]
) -> Float[Tensor, "row d_model"]:
    """Directions of length one; zero where a feature writes nothing."""
    directions = layer_directions(model, source, features)
    norms = directions.norm(dim=1, keepdim=True)
    return directions / norms.where(norms > 0, torch.ones_like(norms))


def _rows(layer: int, features: Int[Tensor, " row"], is_there: Tensor, scope: str, found: _Best) -> pl.DataFrame:
    is_listed = is_there[:, None] & found.cosine.isfinite()
    row, rank = is_listed.nonzero(as_tuple=True)
    n_rows = len(row)
    return pl.DataFrame(
        {
            "layer": [layer] * n_rows,
            "feature": features[row].tolist(),
            "scope": [scope] * n_rows,
            "rank": rank.tolist(),
            "neighbour_layer": found.layer[is_listed].tolist(),
            "neighbour_feature": found.feature[is_listed].tolist(),
            "cosine": found.cosine[is_listed].tolist(),
        },
        schema=NEIGHBOUR_SCHEMA,
    )
