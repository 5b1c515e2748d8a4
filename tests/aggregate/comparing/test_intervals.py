"""Intervals against the published examples of Newcombe's papers, and against what they must be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.aggregate.comparing.intervals import cohens_h, newcombe_independent, newcombe_paired, share, wilson
from tracer.intervene.swaps import Rate


def one(count: int) -> np.ndarray:
    """A single item's count."""
    return np.array([count])


@pytest.mark.parametrize(
    ("first", "n_first", "second", "n_second", "low", "high"),
    [
        # Newcombe 1998, Statist. Med. 17, 873-890, Table II, method 10
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0000),
        (10, 10, 0, 10, 0.6075, 1.0000),
    ],
)
def test_intervals_of_independent_sides_are_the_published_ones(first, n_first, second, n_second, low, high):
    found = newcombe_independent(one(first), n_first, one(second), n_second)
    assert [float(end[0]) for end in found] == pytest.approx([low, high], abs=5e-5)


@pytest.mark.parametrize(
    ("both", "only_first", "only_second", "neither", "low", "high"),
    [
        # Fagerland, Lydersen and Laake 2014 (Statist. Med. 33), airway hyper-responsiveness: -0.507 to -0.026
        (1, 1, 7, 12, -0.507, -0.026),
        # as this code gave them when it was written; the method: Newcombe 1998, Statist. Med. 17, 2635-2650, method 10
        (20, 12, 2, 16, 0.0562, 0.3292),
        (36, 12, 2, 0, 0.0569, 0.3404),
        (0, 12, 2, 36, 0.0569, 0.3404),
    ],
)
def test_intervals_of_pairs_are_the_published_ones(both, only_first, only_second, neither, low, high):
    n_pairs = both + only_first + only_second + neither
    found = newcombe_paired(one(both), one(only_first), one(only_second), n_pairs)
    assert [float(end[0]) for end in found] == pytest.approx([low, high], abs=5e-4)


@given(st.lists(st.integers(0, 12), min_size=4, max_size=4).filter(any))
def test_intervals_of_pairs_hold_the_difference_and_turn_with_the_sides(cells):
    both, only_first, only_second, _ = (one(cell) for cell in cells)
    n_pairs = sum(cells)
    low, high = newcombe_paired(both, only_first, only_second, n_pairs)
    difference = (only_first - only_second) / n_pairs
    assert -1 <= low[0] <= difference[0] + 1e-12
    assert difference[0] - 1e-12 <= high[0] <= 1
    turned = newcombe_paired(both, only_second, only_first, n_pairs)
    assert (-turned[1][0], -turned[0][0]) == pytest.approx((low[0], high[0]), abs=1e-12)


def test_pairs_without_correlation_have_the_interval_of_independent_sides():
    # both x neither = only_first x only_second
    paired = newcombe_paired(one(6), one(2), one(3), 12)
    independent = newcombe_independent(one(8), 12, one(9), 12)
    assert np.concatenate(paired) == pytest.approx(np.concatenate(independent), abs=1e-12)


def test_wilson_agrees_with_the_rates_of_the_model_card():
    hits = np.arange(18)
    low, high = wilson(hits, 17)
    expected = [Rate(n_hits=int(n), n_trials=17).interval(1.959963984540054) for n in hits]
    assert np.column_stack([low, high]) == pytest.approx(np.array(expected), abs=1e-12)


def test_without_graphs_nothing_is_defined():
    assert all(math.isnan(end[0]) for end in newcombe_independent(one(0), 0, one(3), 9))
    assert math.isnan(share(one(0), 0)[0])


def test_effect_sizes_are_cohens():
    # Cohen 1988, table 6.2.2: phi of .70 is 1.982, of .50 1.571
    assert cohens_h(np.array([0.7, 1.0, 0.5]), np.array([0.5, 0.0, 0.5])) == pytest.approx(
        [0.4115, math.pi, 0], abs=1e-4
    )
