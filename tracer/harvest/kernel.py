"""Encode, threshold, keep what is left: features of one layer, tile by tile, never all features densely at once.

A tile is some features by all positions of a batch: rows of the encoder times what they read. It comes out by feature,
then position, which is the order that counting by feature wants, so nothing is sorted afterwards. TopK, which compares
features of one position, keeps the best of each position over the tiles and sorts those few at the end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.attribution.precision import Precision, rounded_to_tf32
from tracer.harvest.stable_top import stable_top
from tracer.model.nonlinearity import JumpReLU, TopK
from tracer.model.transcoders import LayerTranscoder

TILE_FLOATS = {"cpu": 2**21, "cuda": 2**26}
"""Pre-activations held at once: on a CPU what its caches hold, on a GPU what keeps it busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Firing:
    """Active features at some positions, sorted by feature, then position."""

    feature: Int[Tensor, " firing"]
    place: Int[Tensor, " firing"]
    value: Float[Tensor, " firing"]


@torch.no_grad()
def encode_sparsely(
    transcoder: LayerTranscoder,
    reads: Float[Tensor, "place d_model"],
    precision: Precision = "float32",
    tile_floats: int | None = None,
) -> Firing:
    """The activations of `transcoder.encode(reads)` that are not zero.

    Args:
        transcoder: the features of one layer.
        reads: what they read, by position.
        precision: how factors are rounded; products are summed in float32 in any case.
        tile_floats: pre-activations held at once; none given: what suits the device.
    """
    if not len(reads):
        nothing = torch.zeros(0, dtype=torch.long, device=reads.device)
        return Firing(feature=nothing, place=nothing, value=reads.new_zeros(0))
    with _arithmetic(precision, reads) as factors:
        tiles = _tiles(transcoder, factors, precision, tile_floats or TILE_FLOATS[reads.device.type])
        nonlinearity = transcoder.nonlinearity
        if isinstance(nonlinearity, TopK):
            return _best(tiles, nonlinearity)
        threshold = nonlinearity.threshold if isinstance(nonlinearity, JumpReLU) else None
        return _above(tiles, threshold)


def _tiles(
    transcoder: LayerTranscoder, factors: Tensor, precision: Precision, tile_floats: int
) -> Iterator[tuple[int, Float[Tensor, "feature place"]]]:
    """Pre-activations of some features at all positions, with the first feature; a tile is overwritten by the next."""
    n_features, columns = len(transcoder.b_enc), factors.T
    n_rows = min(max(1, tile_floats // len(factors)), n_features)
    bias = transcoder.b_enc[:, None]
    held = torch.empty(n_rows, len(factors), dtype=torch.float32, device=factors.device)
    for first in range(0, n_features, n_rows):
        last = min(first + n_rows, n_features)
        if isinstance(transcoder.W_enc, Tensor):
            rows = transcoder.W_enc[first:last]
        else:
            rows = transcoder.encoder_rows(torch.arange(first, last, device=factors.device))
        tile = held[: last - first]
        if precision == "bfloat16" and factors.is_cuda:
            torch.mm(rows.bfloat16(), columns, out_dtype=torch.float32, out=tile)
            tile += bias[first:last]
        else:
            torch.addmm(bias[first:last], _rounded(rows, precision), columns, out=tile)
        yield first, tile


@contextmanager
def _arithmetic(precision: Precision, reads: Tensor) -> Iterator[Tensor]:
    """What is read, rounded as `precision` says; where the device rounds by itself, it does so within the block."""
    if not reads.is_cuda:
        yield _rounded(reads, precision)
        return
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        yield reads.bfloat16() if precision == "bfloat16" else reads
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _rounded(values: Tensor, precision: Precision) -> Tensor:
    """Factors of lower precision, held in float32 so that products are summed in it."""
    if precision == "float32" or values.is_cuda:
        return values
    return rounded_to_tf32(values) if precision == "tf32" else values.bfloat16().float()


def _above(tiles: Iterator[tuple[int, Tensor]], threshold: Float[Tensor, " feature"] | None) -> Firing:
    """Pre-activations above their feature's threshold, zero where there is none."""
    features, places, values = [], [], []
    for first, tile in tiles:
        is_active = tile > (0.0 if threshold is None else threshold[first : first + len(tile), None])
        feature, place = is_active.nonzero(as_tuple=True)
        value = tile[feature, place]
        if threshold is not None:  # a threshold below zero lets zero through, which is not active
            is_active = value != 0
            feature, place, value = feature[is_active], place[is_active], value[is_active]
        features.append(feature + first)
        places.append(place)
        values.append(value)
    return Firing(feature=torch.cat(features), place=torch.cat(places), value=torch.cat(values))


def _best(tiles: Iterator[tuple[int, Tensor]], nonlinearity: TopK) -> Firing:
    """The `k` largest of each position over all tiles, without those that are zero or become it.

    Of equal ones the lower features, so that the choice does not hang on the size of tiles.
    """
    best: list[tuple[Tensor, Tensor]] = []
    for first, tile in tiles:
        top, column = stable_top(tile.T, nonlinearity.k)
        best.append((top, column + first))
        values, features = (torch.cat(parts, dim=1) for parts in zip(*best, strict=True))
        kept, column = stable_top(values, nonlinearity.k)
        best = [(kept, features.gather(1, column))]
    values, features = best[0]
    # what ReLU makes zero is left out, so that it comes to the same before the choice and after it
    values = values if nonlinearity.rectify == "no" else values.relu()
    place, rank = (values != 0).nonzero(as_tuple=True)
    feature, value = features[place, rank], values[place, rank]
    order = (feature * len(values) + place).argsort()
    return Firing(feature=feature[order], place=place[order], value=value[order])
