"""How often and how strongly each feature fires: counts, sums, maxima, histograms of activations and of positions."""

from collections.abc import Mapping

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.harvest.key_counts import KeyCounts, distinct
from tracer.harvest.windows import LayerFirings, WindowBatch

_N_BINS = 2**12
"""More than there are quarter octaves of float32, of both signs."""
_ZERO_BIN = _N_BINS // 4
_QUARTERS = (2.0**-0.75, 2.0**-0.5, 2.0**-0.25)
_N_OCTAVES = 32


class FeatureSums:
    """`feature_sums`: firings, documents, sum, sum of squares and maximum of each feature that fired."""

    def __init__(self, n_features: Mapping[int, int], device: torch.device) -> None:
        def zeros(dtype: torch.dtype) -> dict[int, Tensor]:
            return {layer: torch.zeros(n, dtype=dtype, device=device) for layer, n in n_features.items()}

        self._n_firings, self._n_documents = zeros(torch.int64), zeros(torch.int64)
        self._sum, self._square_sum = zeros(torch.float64), zeros(torch.float64)
        self._max = {layer: values.float() - torch.inf for layer, values in self._sum.items()}
        self._fired_in_last = zeros(torch.bool)
        self._last: int | None = None

    def add(self, batch: WindowBatch) -> None:
        """As `Accumulator.add`."""
        first, last = int(batch.document[0]), int(batch.document[-1])
        for firings in batch.layers:
            layer, feature, value = firings.layer, firings.feature, firings.value.double()
            n_features = len(self._sum[layer])
            self._n_firings[layer] += torch.bincount(feature, minlength=n_features)
            self._sum[layer].index_add_(0, feature, value)
            self._square_sum[layer].index_add_(0, feature, value.square())
            self._max[layer].scatter_reduce_(0, feature, firings.value, "amax")
            self._count_documents(firings, batch, goes_on=first == self._last)
        self._last = last

    def tables(self) -> dict[str, pl.DataFrame]:
        """As `Accumulator.tables`."""
        return {"feature_sums": pl.concat([self._rows(layer) for layer in self._sum])}

    def _count_documents(self, firings: LayerFirings, batch: WindowBatch, *, goes_on: bool) -> None:
        """Count each document once per feature; one that began in the batch before was counted there for some."""
        feature, fired = firings.feature, self._fired_in_last[firings.layer]
        document = batch.document[firings.row]
        is_first = torch.ones_like(feature, dtype=torch.bool)
        is_first[1:] = (feature[1:] != feature[:-1]) | (document[1:] != document[:-1])
        if goes_on:
            is_first &= ~(fired[feature] & (document == batch.document[0]))
        self._n_documents[firings.layer] += torch.bincount(feature[is_first], minlength=len(fired))
        if not (goes_on and bool(batch.document[0] == batch.document[-1])):
            fired.zero_()
        fired[feature[document == batch.document[-1]]] = True

    def _rows(self, layer: int) -> pl.DataFrame:
        found = self._n_firings[layer].nonzero().flatten()
        columns = {
            "n_firings": self._n_firings, "n_documents": self._n_documents, "activation_sum": self._sum,
            "activation_square_sum": self._square_sum, "activation_max": self._max,
        }  # fmt: skip
        features = {"layer": torch.full_like(found, layer), "feature": found}
        return as_frame(features | {name: values[layer][found] for name, values in columns.items()})


class Histograms:
    """`feature_activation_hist`, in quarter octaves by sign, and `feature_positions`, in octaves."""

    def __init__(self, n_features: Mapping[int, int]) -> None:
        self._n_features = dict(n_features)
        self._activations = {layer: KeyCounts() for layer in n_features}
        self._positions = {layer: KeyCounts() for layer in n_features}

    def add(self, batch: WindowBatch) -> None:
        """As `Accumulator.add`."""
        for firings in batch.layers:
            n_features = self._n_features[firings.layer]
            codes = quarter_octave(firings.value) + _ZERO_BIN
            is_negative = firings.value < 0
            for sign, chosen in ((0, ~is_negative), (_N_BINS // 2, is_negative)):
                of_sign = codes[chosen] + sign
                _count(self._activations[firings.layer], firings.feature[chosen], of_sign, n_features)
            octaves = octave(firings.pos) + 1
            self._positions[firings.layer].add(firings.feature * _N_OCTAVES + octaves, n_features * _N_OCTAVES)

    def tables(self) -> dict[str, pl.DataFrame]:
        """As `Accumulator.tables`."""
        hist, positions = [], []
        for layer, counts in self._activations.items():
            keys, n = counts.total()
            code = keys % _N_BINS
            is_negative = code >= _N_BINS // 2
            columns = {"is_negative": is_negative, "bin": code % (_N_BINS // 2) - _ZERO_BIN, "n": n}
            hist.append(_by_feature(layer, keys // _N_BINS, columns))
        for layer, counts in self._positions.items():
            keys, n = counts.total()
            positions.append(_by_feature(layer, keys // _N_OCTAVES, {"bin": keys % _N_OCTAVES - 1, "n": n}))
        return {"feature_activation_hist": pl.concat(hist), "feature_positions": pl.concat(positions)}


def _count(counts: KeyCounts, feature: Tensor, codes: Tensor, n_features: int) -> None:
    """Count codes by feature. In a batch they span little of what they could, so there is a place for each of these."""
    if not len(codes):
        return
    lowest, span = int(codes.min()), int(codes.max() - codes.min()) + 1
    keys, n = distinct(feature * span + codes - lowest, n_features * span)
    counts.add_counted(keys // span * _N_BINS + keys % span + lowest, n)


def quarter_octave(value: Float[Tensor, " value"]) -> Int[Tensor, " value"]:
    """The number b of 2^(b/4) <= |value| < 2^((b+1)/4), for float32 values but zero; exact."""
    mantissa, exponent = torch.frexp(value.double().abs())
    quarter = torch.zeros_like(exponent, dtype=torch.long)
    for bound in _QUARTERS:
        quarter += mantissa >= bound
    return 4 * (exponent.long() - 1) + quarter


def octave(number: Int[Tensor, " number"]) -> Int[Tensor, " number"]:
    """The number b of 2^b <= number < 2^(b+1); -1 for zero."""
    return torch.frexp(number.double()).exponent.long() - 1


def as_frame(columns: Mapping[str, Tensor]) -> pl.DataFrame:
    """Columns of equal length as a frame."""
    return pl.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})


def _by_feature(layer: int, feature: Tensor, columns: Mapping[str, Tensor]) -> pl.DataFrame:
    return as_frame({"layer": torch.full_like(feature, layer), "feature": feature, **columns})
