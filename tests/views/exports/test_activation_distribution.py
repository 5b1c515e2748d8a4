"""Bars and percentiles from bins, beside the activations that were counted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.views.exports.drawn_features import counted
from tracer.views.exports.activation_distribution import N_BARS, activation_distribution

ACTIVATIONS = st.lists(
    st.floats(2**-20, 2**20, width=32).flatmap(lambda size: st.sampled_from([size, -size])), min_size=1, max_size=60
)


@given(ACTIVATIONS)
def test_bars_hold_every_activation_between_the_ends(activations: list[float]):
    spread = activation_distribution(counted(activations), max(activations))
    heights, middles = spread.histogram()
    assert len(heights) == len(middles) == N_BARS
    assert sum(heights) == pytest.approx(len(activations))
    assert min(heights) >= 0
    assert spread.lower <= min(0.0, min(activations)) + 1e-9 * abs(min(activations))
    assert spread.upper == max(activations)
    assert all(spread.lower <= middle <= spread.upper for middle in middles)


@given(ACTIVATIONS)
def test_counts_are_exact_at_the_edges_of_the_bins(activations: list[float]):
    spread = activation_distribution(counted(activations), max(activations))
    for edge, n_below in zip(spread.edges[2:-1:2], spread.counts_below[2:-1:2], strict=True):
        away = [value for value in activations if not math.isclose(value, edge, rel_tol=1e-9)]
        n_close = len(activations) - len(away)
        assert 0 <= n_below - sum(value < edge for value in away) <= n_close


@given(ACTIVATIONS)
def test_percentiles_ascend_and_are_right_to_a_quarter_octave(activations: list[float]):
    spread = activation_distribution(counted(activations), max(activations))
    found = spread.percentiles()
    assert found == sorted(found)
    nearest = np.percentile(activations, range(1, 100), method="inverted_cdf")
    following = np.percentile(activations, range(1, 100), method="higher")
    for estimate, low, high in zip(found, nearest, following, strict=True):
        slack = 2**0.25 + 1e-6
        lowest, highest = min(low, low * slack, low / slack), max(high, high * slack, high / slack)
        assert lowest <= estimate <= highest


@pytest.mark.parametrize("largest", [None, math.nan, math.inf])
def test_without_a_finite_largest_activation_there_is_no_distribution(largest: float | None):
    assert activation_distribution([(False, 0, 3)], largest) is None
    assert activation_distribution([], 1.0) is None
