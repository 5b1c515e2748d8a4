"""The mathematics of scores against plain definitions, and what their intervals promise."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tracer.autointerp.scoring.measures import (
    Verdict,
    area_under_curve,
    balanced_accuracy,
    classification,
    correlation,
    mean,
    mean_correlation,
    share_interval,
)

CHANCES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
ITEMS = st.lists(st.tuples(st.booleans(), CHANCES), min_size=2, max_size=40)


def verdicts(items: Sequence[tuple[bool, float]]) -> list[Verdict]:
    """Those of (truth, chance) pairs."""
    return [Verdict(is_positive=truth, probability=chance) for truth, chance in items]


@given(ITEMS)
def test_accuracy_and_area_equal_those_of_scikit_learn(items: list[tuple[bool, float]]) -> None:
    truth = np.array([positive for positive, _ in items])
    chances = np.array([chance for _, chance in items])
    accuracy, area = classification(verdicts(items), name="x")
    if truth.all() or not truth.any():
        assert (accuracy.value, area.value) == (None, None)
        assert balanced_accuracy(truth, chances >= 0.5) is area_under_curve(truth, chances) is None
        return
    assert accuracy.value == pytest.approx(balanced_accuracy_score(truth, chances >= 0.5))
    assert area.value == pytest.approx(roc_auc_score(truth, chances))
    for figure in (accuracy, area):
        assert 0 <= figure.low <= figure.high <= 1


@given(ITEMS, st.booleans())
def test_an_answer_that_pays_no_heed_to_the_texts_gets_one_half(items: list[tuple[bool, float]], says: bool) -> None:
    blind = [(truth, float(says)) for truth, _ in items]
    accuracy, area = classification(verdicts(blind), name="x")
    assert {accuracy.value, area.value} <= {0.5, None}


def test_the_interval_of_a_guesser_holds_one_half_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    n_held = 0
    for trial in range(200):
        items = [(bool(number % 2), float(rng.random())) for number in range(40)]
        _, area = classification(verdicts(items), name=str(trial))
        n_held += area.low <= 0.5 <= area.high
    assert n_held >= 180


def test_a_mean_needs_two_values_for_an_interval_and_one_for_a_value() -> None:
    assert mean([], name="x").value is None
    single = mean([0.25], name="x")
    assert (single.value, single.low, single.high) == (0.25, None, None)
    several = mean([0.0, 0.5, 1.0, 0.5], name="x")
    assert several.low < several.value == 0.5 < several.high
    assert mean([0.0, 0.5, 1.0, 0.5], name="x") == several


def test_correlation_over_texts_is_that_of_all_their_tokens_and_its_interval_of_whole_texts() -> None:
    rng = np.random.default_rng(1)
    pairs = [(first, first + rng.normal(size=12)) for first in (rng.normal(size=12) for _ in range(8))]
    figure = mean_correlation(pairs, name="x")
    joined = [np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)]
    assert figure.value == pytest.approx(np.corrcoef(*joined)[0, 1])
    assert figure.low < figure.value < figure.high
    assert correlation(np.arange(5.0), np.zeros(5)) is None
    assert mean_correlation([(np.arange(5.0), np.zeros(5))], name="x").value is None


def test_foretelling_the_same_of_every_token_counts_as_nothing_foretold() -> None:
    measured = [np.arange(5.0), np.arange(5.0)[::-1] / 3, np.ones(5)]
    assert correlation(np.full(5, 0.1), measured[0]) == 0.0
    constant = mean_correlation([(np.full(5, 0.1), part) for part in measured], name="x")
    assert (constant.value, constant.low, constant.high) == (0.0, 0.0, 0.0)
    once = mean_correlation([(measured[0], measured[0]), *[(np.full(5, 0.1), part) for part in measured]], name="x")
    assert once.low == 0.0 < once.value  # some resamples hold constants alone


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_holds_it(counts: tuple[int, int]) -> None:
    n, n_all = counts
    low, high = share_interval(n, n_all)
    assert 0 <= low <= n / n_all <= high <= 1
    assert high - low > 0
