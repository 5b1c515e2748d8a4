"""Activation histograms as bars."""

import polars as pl
import pytest

from tracer.views.histogram import BAR_HEIGHT, histogram_bars, shared_axis

ROWS = pl.DataFrame({"is_negative": [True, False, False], "bin": [-2, 0, 5], "n": [1, 8, 4]})


def test_bars_are_as_high_as_their_counts_and_lie_within_the_shared_axis():
    axis = shared_axis(ROWS)
    bars = histogram_bars(ROWS, axis)
    assert {bar.n: bar.height for bar in bars} == {
        8: BAR_HEIGHT,
        4: BAR_HEIGHT / 2,
        1: pytest.approx(BAR_HEIGHT / 8, abs=0.05),
    }
    assert all(0 <= bar.x < axis.width for bar in bars)
    assert (axis.lower, axis.upper) == (2**-0.5, 2**1.5)


def test_negative_activations_hang_below_the_line_and_positive_ones_stand_on_it():
    for bar in histogram_bars(ROWS, shared_axis(ROWS)):
        assert bar.y == BAR_HEIGHT if bar.is_negative else bar.y + bar.height == pytest.approx(BAR_HEIGHT)


def test_a_feature_without_activations_has_no_bars():
    assert histogram_bars(ROWS.clear(), shared_axis(ROWS.clear())) == ()
