"""The length-aware null: its two forms, their margins and where they meet."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracer.aggregate.hypergraph import chances
from tracer.aggregate.hypergraph.chances import RARE, condense, fit_null, support_in_strata
from tracer.aggregate.incidence import Incidence, Ints


def margins(held: Ints) -> tuple[Ints, Ints]:
    """Support by feature and length by graph."""
    return held.sum(axis=0), held.sum(axis=1)


def zipf_incidence(seed: int, n_graphs: int, n_features: int, power: float) -> tuple[Ints, np.ndarray]:
    """Independent draws and the chances that they were drawn with, both [n_graphs, n_features]."""
    rng = np.random.default_rng(seed)
    rate = 1 / np.arange(1, n_features + 1) ** power
    chance = 1 - np.exp(-np.outer(rng.choice([1.0, 5.0], size=n_graphs), rate))
    return (rng.random(chance.shape) < chance).astype(np.int64), chance


def test_rare_pairs_have_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    held = (rng.random((500, 300)) < rng.choice([0.01, 0.03], size=500)[:, None]).astype(np.int64)
    support, length = margins(held)
    null = fit_null(support, length)
    assert null.is_closed
    first, second = np.triu_indices(300, k=1)
    # a graph's items take places from each other; its variance is a little below its length
    expected = support[first] * support[second] * (length * (length - 1.0)).sum() / length.sum() ** 2
    np.testing.assert_allclose(null.expected_pairs(support[first], support[second]), expected, rtol=0.01)


def test_frequent_features_keep_their_supports_and_recover_the_true_expectations() -> None:
    held, chance = zipf_incidence(1, n_graphs=4000, n_features=60, power=0.7)
    support, length = margins(held)
    null = fit_null(support, length)
    np.testing.assert_allclose(null.chances(support) @ null.n_graphs, support, rtol=1e-6)
    first, second = np.triu_indices(60, k=1)
    truth = np.einsum("gp,gp->p", chance[:, first], chance[:, second])
    ratio = null.expected_pairs(support[first], support[second]) / truth
    # a length is a noisy measure of a graph's room, the more so in graphs of few features as here
    assert 0.98 < np.mean(ratio) < 1.02
    assert np.all(np.abs(ratio - 1) < 0.25)
    # the closed form fails here, which is why there are two
    closed = support[first] * support[second] * (length**2).sum() / length.sum() ** 2
    assert np.any(closed > np.minimum(support[first], support[second]))


def test_a_feature_of_every_graph_is_expected_with_every_other_as_often_as_that_occurs() -> None:
    held, _ = zipf_incidence(2, n_graphs=300, n_features=40, power=1.0)
    held[:, 5] = 1
    support, length = margins(held)
    others = np.setdiff1d(np.flatnonzero(support), [5])
    expected = fit_null(support, length).expected_pairs(np.full(len(others), support[5]), support[others])
    np.testing.assert_allclose(expected, support[others], rtol=1e-6)


def test_the_two_forms_agree_at_the_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    held = (rng.random((800, 400)) < rng.choice([0.015, 0.03], size=800)[:, None]).astype(np.int64)
    first, second = np.triu_indices(400, k=1)
    support, length = margins(held)
    closed = fit_null(support, length)
    assert closed.is_closed
    assert closed.chances(support).max() > RARE / 2
    monkeypatch.setattr(chances, "RARE", 0.0)
    saturating = fit_null(support, length)
    assert not saturating.is_closed
    pairs = support[first], support[second]
    np.testing.assert_allclose(closed.expected_pairs(*pairs), saturating.expected_pairs(*pairs), rtol=RARE / 2)


def test_features_of_every_graph_leave_their_room_out_of_the_chances_of_the_others() -> None:
    held, _ = zipf_incidence(5, n_graphs=2000, n_features=50, power=1.0)
    support, length = margins(held)
    pairs = support[np.triu_indices(50, k=1)[0]], support[np.triu_indices(50, k=1)[1]]
    alone = fit_null(support, length)
    beside_them = fit_null(*margins(np.hstack([held, np.ones((2000, 20), dtype=np.int64)])))
    np.testing.assert_allclose(beside_them.expected_pairs(*pairs), alone.expected_pairs(*pairs), rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(held=hnp.arrays(np.int64, st.tuples(st.integers(1, 20), st.integers(1, 12)), elements=st.integers(0, 1)))
def test_chances_are_chances_that_add_up_to_the_supports(held: Ints) -> None:
    support, length = margins(held)
    if support.sum() == 0:
        return
    null = fit_null(support, length)
    chance = null.chances(support)
    assert np.all((chance >= 0) & (chance <= 1 + 1e-12))
    np.testing.assert_allclose(chance @ null.n_graphs, support, rtol=1e-5, atol=1e-9)
    assert np.all(null.n_graphs == np.bincount(null.cell, minlength=len(null.n_graphs)))


@given(values=hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 1000)), n_bins=st.integers(1, 20))
def test_condensing_keeps_number_and_sum(values: Ints, n_bins: int) -> None:
    distinct, counts, place = condense(values, n_bins)
    assert len(distinct) <= n_bins
    assert counts.sum() == len(values)
    assert (distinct * counts).sum() == pytest.approx(values.sum())
    assert np.all(np.diff(distinct) > 0)
    np.testing.assert_allclose(np.bincount(place, weights=values), distinct * counts)


@settings(max_examples=40, deadline=None)
@given(held=hnp.arrays(np.int64, st.tuples(st.integers(1, 20), st.integers(1, 6)), elements=st.integers(0, 1)))
def test_supports_in_strata_are_those_of_their_graphs(held: Ints) -> None:
    stratum = np.arange(len(held)) % 3 * 5
    incidence = Incidence.of(*np.nonzero(held), held.shape, stratum)
    expected = np.array([held[stratum == number].sum(axis=0) for number in np.unique(stratum)])
    np.testing.assert_array_equal(support_in_strata(incidence), expected)
