"""Counts of pairs against products of matrices and brute force, whatever has bits of its own, however work is cut."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.benchmarks.zipf_graphs import zipf_incidence
from tracer.aggregate.hypergraph import bits, pairs, ranked
from tracer.aggregate.hypergraph.bits import RowAdder
from tracer.aggregate.hypergraph.pairs import count_given_pairs, count_pairs
from tracer.aggregate.incidence import Incidence, Ints

HELD = hnp.arrays(np.int64, st.tuples(st.integers(0, 12), st.integers(0, 9)), elements=st.integers(0, 1))


def incidence_of(held: np.ndarray, stratum: Ints | None = None) -> Incidence:
    """The incidence of a dense array of zeros and ones."""
    return Incidence.of(*np.nonzero(held), held.shape, stratum)


def shared(incidence: Incidence) -> Ints:
    """Graphs that each two items share, dense, by scipy."""
    matrix = incidence.matrix.astype(np.int64)
    return (matrix.T @ matrix).toarray()


@pytest.fixture(scope="module")
def cut_small() -> Iterator[pytest.MonkeyPatch]:
    """Few items with bits of their own, small blocks: every path is taken by small incidences."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (bits, pairs):
            patch.setattr(module, "N_BITS", 64)
        patch.setattr(bits, "ROWS_AT_ONCE", 100)
        patch.setattr(pairs, "FEW", 0)
        patch.setattr(pairs, "GRAPHS_AT_ONCE", 70)
        patch.setattr(ranked, "GRAPHS_AT_ONCE", 70)
        patch.setattr(ranked, "PLACES_AT_ONCE", 1000)
        patch.setattr(pairs, "ROWS_PER_TASK", 500)
        patch.setattr(pairs, "PRODUCTS_AT_ONCE", 1000)
        yield patch


def check_counts(incidence: Incidence, min_support: int) -> None:
    """All pairs, and all pairs as given ones, are as scipy counts them."""
    expected = shared(incidence)
    found = count_pairs(incidence, min_support)
    first, second = np.nonzero(np.triu(expected, 1) >= min_support)
    np.testing.assert_array_equal(found.first, first)
    np.testing.assert_array_equal(found.second, second)
    np.testing.assert_array_equal(found.support, expected[first, second])
    one, other = np.indices(expected.shape).reshape(2, -1)
    np.testing.assert_array_equal(count_given_pairs(incidence, one, other), expected.ravel())


@settings(max_examples=60, deadline=None)
@given(held=HELD, min_support=st.integers(1, 4), few=st.sampled_from([0, 256]))
def test_counts_of_small_incidences_are_those_of_the_product(held: Ints, min_support: int, few: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "FEW", few)
        check_counts(incidence_of(held), min_support)


@pytest.mark.parametrize(("seed", "min_support"), [(0, 1), (1, 3), (2, 12)])
def test_counts_are_those_of_the_product_with_groups_and_blocks(
    cut_small: pytest.MonkeyPatch, seed: int, min_support: int
) -> None:
    check_counts(zipf_incidence(400, seed, n_items=500, mean_draws=40, n_communities=5), min_support)


def test_items_of_one_group_that_come_together_are_found(cut_small: pytest.MonkeyPatch) -> None:
    held = np.zeros((300, 300), np.int64)
    held[:, :64] = 1
    # ranks beyond 64 follow the order of items of equal support, so that these two share a group
    held[:50, 64:300] = np.random.default_rng(0).random((50, 236)) < 0.02
    held[100:130, [70, 134]] = 1
    check_counts(incidence_of(held), 20)


def test_all_ones_and_nothing_at_all() -> None:
    check_counts(incidence_of(np.ones((70, 5))), 70)
    check_counts(incidence_of(np.ones((1, 4))), 1)
    for shape in ((0, 0), (3, 0), (0, 3), (4, 1)):
        assert len(count_pairs(incidence_of(np.zeros(shape)), 1).first) == 0


@pytest.mark.parametrize("words_at_once", [1, 8, 60, 2**17])
def test_bits_that_rows_share_are_those_of_the_product(monkeypatch: pytest.MonkeyPatch, words_at_once: int) -> None:
    monkeypatch.setattr(bits, "WORDS_AT_ONCE", words_at_once)
    held = (np.random.default_rng(0).random((11, 200)) < 0.3).astype(np.int64)
    rows = bits.bit_rows(*np.nonzero(held), held.shape)
    np.testing.assert_array_equal(bits.n_shared_by_two(rows), np.tril(held @ held.T, -1))
    np.testing.assert_array_equal(bits.n_shared(rows, rows[3]), held @ held[3])


@settings(max_examples=40, deadline=None)
@given(
    table=hnp.arrays(np.uint64, st.tuples(st.integers(1, 6), st.integers(1, 2))),
    shape=st.tuples(st.integers(0, 40), st.integers(1, 3)),
    seed=st.integers(0, 100),
)
def test_added_rows_are_sums_of_their_bits(table: np.ndarray, shape: tuple[int, int], seed: int) -> None:
    lists = np.random.default_rng(seed).integers(0, len(table), shape)
    unpacked = np.unpackbits(table.view(np.uint8), axis=1, bitorder="little").astype(np.int64)
    np.testing.assert_array_equal(RowAdder().sums(table, lists), unpacked[lists].sum(axis=0))
