"""Exact tests against scipy's, item by item, and the correction against a plain one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tracer.aggregate.comparing.exact_tests import fisher, mcnemar, q_values


@settings(max_examples=30)
@given(
    sizes=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    shares=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12),
)
def test_fishers_test_is_scipys(sizes, shares):
    n_first, n_second = sizes
    first = np.array([round(share * n_first) for share, _ in shares])
    second = np.array([round(share * n_second) for _, share in shares])
    p, least = fisher(first, n_first, second, n_second)
    tables = [[[a, n_first - a], [b, n_second - b]] for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    assert p == pytest.approx([stats.fisher_exact(table).pvalue for table in tables], rel=1e-7)
    for item, total in enumerate((first + second).tolist()):
        splits = range(max(0, total - n_second), min(total, n_first) + 1)
        every = [stats.fisher_exact([[a, n_first - a], [total - a, n_second - total + a]]).pvalue for a in splits]
        assert least[item] == pytest.approx(min(every), rel=1e-7)


def test_fishers_test_of_large_sides_stays_exact_and_above_nothing():
    p, least = fisher(np.array([60_000, 700]), 100_000, np.array([0, 650]), 100_000)
    assert p[0] == least[0] == np.finfo(float).tiny
    assert p[1] == pytest.approx(stats.fisher_exact([[700, 99_300], [650, 99_350]]).pvalue, rel=1e-5)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=10))
def test_mcnemars_test_is_a_binomial_one(pairs):
    only_first, only_second = np.array(pairs).T
    p, least = mcnemar(only_first, only_second)
    for item, (one, other) in enumerate(pairs):
        n = one + other
        assert p[item] == pytest.approx(stats.binomtest(one, n).pvalue if n else 1.0)
        assert least[item] == pytest.approx(stats.binomtest(n, n).pvalue if n else 1.0)


def test_items_that_cannot_be_significant_neither_get_a_q_nor_cost_the_others_anything():
    p, least = np.array([0.01, 0.2, 0.03, 0.9]), np.array([0.001, 0.01, 0.02, 0.06])
    q = q_values(p, least)
    assert q[:3] == pytest.approx(stats.false_discovery_control(p[:3]))
    assert np.isnan(q[3])
    assert np.isnan(q_values(np.ones(3), np.ones(3))).all()
    assert len(q_values(np.zeros(0), np.zeros(0))) == 0
