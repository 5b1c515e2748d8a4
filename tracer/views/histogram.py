"""Small pictures inside tables: an activation histogram as bars, on one logarithmic axis for all rows."""

from dataclasses import dataclass

import polars as pl

BAR_WIDTH, BAR_HEIGHT = 4, 22.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bin, in pixels of the picture; `range_text` says which activations it counts."""

    x: int
    y: float
    height: float
    n: int
    is_negative: bool
    range_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramAxis:
    """Quarter-octave bins that the histograms of a table share, first and last included."""

    first_bin: int
    last_bin: int

    @property
    def width(self) -> int:
        """Width of a histogram on this axis, pixels."""
        return BAR_WIDTH * (self.last_bin - self.first_bin + 1)

    @property
    def lower(self) -> float:
        """Smallest activation on the axis."""
        return 2 ** (self.first_bin / 4)

    @property
    def upper(self) -> float:
        """Largest activation on the axis."""
        return 2 ** ((self.last_bin + 1) / 4)


def shared_axis(histograms: pl.DataFrame) -> HistogramAxis:
    """The axis that holds every row of `feature_activation_hist` given."""
    bins = [0] if histograms.is_empty() else histograms["bin"].to_list()
    return HistogramAxis(first_bin=min(bins), last_bin=max(bins))


def histogram_bars(histogram: pl.DataFrame, axis: HistogramAxis) -> tuple[Bar, ...]:
    """The bars of one feature's rows of `feature_activation_hist`; negative activations hang below the line."""
    if histogram.is_empty():
        return ()
    largest = histogram["n"].max()
    bars = []
    for row in histogram.sort("is_negative", "bin").iter_rows(named=True):
        height = max(1.0, round(BAR_HEIGHT * row["n"] / largest, 1))
        sign = "−" if row["is_negative"] else ""
        lower, upper = (f"{sign}{2 ** (edge / 4):.3g}" for edge in (row["bin"], row["bin"] + 1))
        bars.append(
            Bar(
                x=BAR_WIDTH * (row["bin"] - axis.first_bin),
                y=BAR_HEIGHT if row["is_negative"] else round(BAR_HEIGHT - height, 1),
                height=height,
                n=row["n"],
                is_negative=row["is_negative"],
                range_text=f"{lower} to {upper}",
            )
        )
    return tuple(bars)
