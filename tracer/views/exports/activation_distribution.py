"""How a feature's activations are spread, as far as the bins of `feature_activation_hist` tell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracer.harvest.counts import BINS_PER_OCTAVE

N_BARS = 50
PERCENTILES = range(1, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationDistribution:
    """Counts of activations below each of `edges`, taken to be even between two of them.

    So a figure read between the edges of a bin is right to a quarter octave, and exact at them.
    """

    edges: npt.NDArray[np.float64]
    counts_below: npt.NDArray[np.float64]

    @property
    def lower(self) -> float:
        """0, which is what an inactive feature has, or the lowest edge where there are negative activations."""
        return min(0.0, float(self.edges[0]))

    @property
    def upper(self) -> float:
        """The largest activation."""
        return float(self.edges[-1])

    def histogram(self) -> tuple[list[float], list[float]]:
        """Activations in each of `N_BARS` equally wide bars over `lower` .. `upper`, and the middles of the bars."""
        bars = np.linspace(self.lower, self.upper, N_BARS + 1)
        heights = np.diff(np.interp(bars, self.edges, self.counts_below))
        return heights.tolist(), ((bars[:-1] + bars[1:]) / 2).tolist()

    def percentiles(self) -> list[float]:
        """The activations below which 1, 2, ..., 99 per cent of all activations lie."""
        shares = np.array(PERCENTILES) / 100
        return np.interp(shares * self.counts_below[-1], self.counts_below, self.edges).tolist()


def activation_distribution(
    bins: Sequence[tuple[bool, int, int]], activation_max: float | None
) -> ActivationDistribution | None:
    """The distribution of one feature; None where no activation was counted or the largest is no finite number.

    Args:
        bins: (is_negative, bin, n) as in `feature_activation_hist`.
        activation_max: the largest activation, at which the highest bin ends.
    """
    if not bins or activation_max is None or not np.isfinite(activation_max):
        return None
    ranges = sorted((*_range(is_negative, place), n) for is_negative, place, n in bins)
    edges = [edge for lower, upper, _ in ranges for edge in (lower, upper)]
    # the bin's own edge may lie on the wrong side of the largest activation by a rounding
    edges[-2:] = min(edges[-2], activation_max), activation_max
    totals = np.cumsum([n for _, _, n in ranges])
    counts_below = np.stack([totals - [n for _, _, n in ranges], totals], axis=1).ravel().astype(np.float64)
    return ActivationDistribution(edges=np.array(edges), counts_below=counts_below)


def _range(is_negative: bool, place: int) -> tuple[float, float]:
    lower, upper = 2 ** (place / BINS_PER_OCTAVE), 2 ** ((place + 1) / BINS_PER_OCTAVE)
    return (-upper, -lower) if is_negative else (lower, upper)
