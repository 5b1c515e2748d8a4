"""Counts against brute force, family-wise chances against every deal there is, false discoveries and power."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import sparse, stats

from tracer.aggregate.comparing import measures, permutation
from tracer.aggregate.comparing.items import Columns, frequent_columns, frequent_pairs
from tracer.aggregate.comparing.measures import measure
from tracer.aggregate.comparing.permutation import family_wise_p
from tracer.aggregate.comparing.sides import Sides
from tracer.aggregate.incidence import Incidence


def incidence_of(held: np.ndarray) -> Incidence:
    """The incidence of a dense matrix, [n_graphs, n_items]."""
    graph_idx, item_idx = np.nonzero(held)
    return Incidence.of(graph_idx.astype(np.int64), item_idx.astype(np.int64), held.shape)


def columns_of(held: np.ndarray) -> Columns:
    """All of its items."""
    return Columns(incidence_of(held).matrix.tocsc(), np.arange(held.shape[1]))


def sides_of(n_first: int, n_second: int, *, is_paired: bool = False, name: str = "", stratum=None) -> Sides:
    """Sides of graphs with names of their own."""
    names = [[f"{name} {side}{idx}" for idx in range(n)] for side, n in (("a", n_first), ("b", n_second))]
    return Sides.of(*names, is_paired=is_paired, stratum=stratum)


def random_graphs(seed: int, n_graphs: int, n_items: int) -> np.ndarray:
    """Independent items of all frequencies; which graph is on which side changes nothing."""
    rng = np.random.default_rng(seed)
    return (rng.random((n_graphs, n_items)) < rng.beta(0.5, 3, n_items)).astype(np.int64)


@pytest.mark.parametrize("is_paired", [False, True])
def test_features_and_pairs_are_counted_as_by_hand_a_graph_once(is_paired, monkeypatch):
    for module in (permutation, measures):
        monkeypatch.setattr(module, "ITEMS_AT_ONCE", 3)
    held = (np.random.default_rng(1).random((24, 9)) < np.linspace(0.05, 0.7, 9)).astype(np.int64)
    twice = Incidence.of(*(np.concatenate([places, places]) for places in np.nonzero(held)), held.shape)
    sides = sides_of(12, 12, is_paired=is_paired)
    features, pairs = frequent_columns(twice, 4), frequent_pairs(twice, 4)
    assert features.idx.tolist() == np.flatnonzero(held.sum(axis=0) >= 4).tolist()
    shared = {(a, b): held[:, a] & held[:, b] for a, b in combinations(range(9), 2)}
    assert set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == {
        pair for pair, graphs in shared.items() if graphs.sum() >= 4
    }
    pair_keys = list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))
    for items, columns in ((features, held[:, features.idx].T), (pairs, [shared[key] for key in pair_keys])):
        frame = measure(sides, items, n_permutations=20)
        assert frame.height == items.n_items > 3
        for column, row in zip(columns, frame.iter_rows(named=True), strict=True):
            first, second = column[:12], column[12:]
            assert (row["support_first"], row["support_second"]) == (first.sum(), second.sum())
            assert row["difference"] == pytest.approx((first.sum() - second.sum()) / 12)
            if is_paired:
                one, other = int((first > second).sum()), int((second > first).sum())
                expected = stats.binomtest(one, one + other).pvalue if one + other else 1.0
            else:
                n_held = int(first.sum()), int(second.sum())
                expected = stats.fisher_exact([n_held, [12 - n for n in n_held]]).pvalue
            assert row["p"] == pytest.approx(expected)


def standardised(held, first, stratum):
    """Absolute differences in standard deviations, from the definition."""
    centre, variance = np.zeros(held.shape[1]), np.zeros(held.shape[1])
    for value in np.unique(stratum):
        inside, n_first = held[stratum == value], first[stratum == value].sum()
        n, k = len(inside), inside.sum(axis=0)
        centre += n_first * k / n
        variance += k * (n - k) * n_first * (n - n_first) / (n * n * max(n - 1, 1))
    away = np.abs(held[first].sum(axis=0) - centre)
    return np.divide(away, np.sqrt(variance), out=np.zeros_like(away), where=variance > 0)


@pytest.mark.parametrize("has_strata", [False, True])
def test_family_wise_chances_near_those_of_every_possible_deal(has_strata):
    held = random_graphs(5, 10, 6)
    held[:5, 0], held[5:, 0] = [1, 1, 1, 1, 0], 0
    stratum = np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 1]) if has_strata else np.zeros(10, int)
    largest = []
    for chosen in combinations(range(10), 5):
        first = np.isin(np.arange(10), chosen)
        if all(first[stratum == value].sum() == (stratum[:5] == value).sum() for value in np.unique(stratum)):
            largest.append(standardised(held, first, stratum).max())
    observed = standardised(held, np.arange(10) < 5, stratum)
    exact = np.array([(np.array(largest) >= value - 1e-9).mean() for value in observed])
    sides = sides_of(5, 5, stratum=stratum if has_strata else None)
    found = family_wise_p(sides, columns_of(held), n_deals=4000, seed=0)
    assert found == pytest.approx(exact, abs=0.03)


def test_family_wise_chances_of_pairs_near_those_of_every_swap():
    held = random_graphs(6, 16, 6)
    held[:8, 0], held[8:, 0] = 1, 0
    differences = held[:8] - held[8:]
    spread = np.sqrt(np.maximum(np.abs(differences).sum(axis=0), 1))
    largest = np.array([np.abs(np.array(swap) @ differences / spread).max() for swap in product((1, -1), repeat=8)])
    exact = np.array([(largest >= z - 1e-9).mean() for z in np.abs(differences.sum(axis=0)) / spread])
    found = family_wise_p(sides_of(8, 8, is_paired=True), columns_of(held), n_deals=4000, seed=0)
    assert found == pytest.approx(exact, abs=0.03)
    assert found[0] == pytest.approx(2 / 256, abs=0.006)


def error_rates(is_paired: bool, n_seeds: int) -> tuple[float, float]:
    """Share of null comparisons with any q, and with any family-wise p, below 0.05."""
    any_q = any_p = 0
    for seed in range(n_seeds):
        sides = sides_of(40, 40, is_paired=is_paired, name=str(seed))
        items = frequent_columns(incidence_of(random_graphs(seed, 80, 60)), 5)
        frame = measure(sides, items, n_permutations=99, seed=seed)
        any_q += bool((frame["q"].fill_null(1) <= 0.05).any())
        any_p += bool((frame["p_permutation"] <= 0.05).any())
    return any_q / n_seeds, any_p / n_seeds


@pytest.mark.parametrize("is_paired", [False, True])
def test_equal_sides_give_false_discoveries_no_more_often_than_said(is_paired):
    n_seeds = 80
    for rate in error_rates(is_paired, n_seeds):
        assert rate <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / n_seeds)


@pytest.mark.parametrize("is_paired", [False, True])
def test_planted_differences_are_found_and_little_else(is_paired):
    n_planted, n_found, n_false, n_family = 0, 0, 0, 0
    for seed in range(10):
        held = random_graphs(100 + seed, 200, 80)
        rng = np.random.default_rng(seed)
        held[:100, :6], held[100:, :6] = rng.random((100, 6)) < 0.4, rng.random((100, 6)) < 0.1
        frame = measure(sides_of(100, 100, is_paired=is_paired, name=str(seed)), columns_of(held), n_permutations=200)
        found = (frame["q"].fill_null(1) <= 0.05).to_numpy()
        n_planted, n_found, n_false = n_planted + 6, n_found + found[:6].sum(), n_false + found[6:].sum()
        n_family += (frame["p_permutation"][:6] <= 0.05).sum()
    assert n_found >= 0.95 * n_planted
    assert n_family >= 0.9 * n_planted
    assert n_false <= 0.1 * n_found


def test_a_stratum_that_explains_a_difference_leaves_nothing_to_be_found():
    rng = np.random.default_rng(0)
    # nine in ten of the first side are of stratum 1, whose graphs hold the item; nothing hangs on the side itself
    stratum = np.concatenate([rng.random(200) < 0.9, rng.random(200) < 0.1]).astype(np.int64)
    held = (rng.random((400, 1)) < np.where(stratum, 0.8, 0.1)[:, None]).astype(np.int64)
    plain = family_wise_p(sides_of(200, 200), columns_of(held), n_deals=200, seed=0)
    within = family_wise_p(sides_of(200, 200, stratum=stratum), columns_of(held), n_deals=200, seed=0)
    assert plain[0] < 0.01
    assert within[0] > 0.05


def test_what_is_undefined_is_null_and_never_nought():
    held = np.zeros((6, 2), np.int64)
    held[:, 0] = 1
    frame = measure(sides_of(6, 0), columns_of(held), n_permutations=10)
    assert frame["frequency_first"].to_list() == [1.0, 0.0]
    assert frame["support_second"].to_list() == [0, 0]
    for name in ("frequency_second", "difference", "difference_low", "effect_size", "p", "q", "p_permutation"):
        assert frame[name].to_list() == [None, None], name
    frame = measure(sides_of(3, 3), columns_of(held), n_permutations=0)
    assert frame["p_permutation"].null_count() == frame["q"].null_count() == 2
    assert frame["difference"].to_list() == [0.0, 0.0]
    nothing = measure(sides_of(3, 3), Columns(sparse.csc_array((6, 0), dtype=np.int32), np.zeros(0, np.int64)))
    assert nothing.height == 0
