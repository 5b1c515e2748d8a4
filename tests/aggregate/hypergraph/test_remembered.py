"""Pairs that are counted on are those of counting everything."""

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.benchmarks.zipf_graphs import zipf_incidence
from tracer.aggregate.hypergraph import remembered
from tracer.aggregate.hypergraph.pairs import Pairs, count_pairs
from tracer.aggregate.hypergraph.remembered import count_pairs_on
from tracer.aggregate.incidence import Incidence
from tracer.aggregate.reading import Items
from tracer.aggregate.tasks import in_process
from tracer.tables.database import Connection


def database() -> Connection:
    connection = duckdb.connect()
    connection.execute("ATTACH ':memory:' AS state")
    return connection


def counted(connection: Connection, incidence: Incidence, n_graphs: int, min_support: int) -> tuple[Pairs, Pairs]:
    """The pairs of the first graphs from what is remembered, and from counting them all."""
    first = incidence.matrix[:n_graphs]
    known = np.flatnonzero(np.bincount(first.indices, minlength=first.shape[1]))  # columns shift as items come in
    some = Incidence(matrix=first[:, known])
    places = np.column_stack([known // 100, known % 100, np.full(len(known), -1)])
    items = Items(granularity="feature", places=places)
    found = count_pairs_on(connection, items, some, min_support=min_support, run=in_process)
    return found, count_pairs(some, min_support)


def assert_equal(found: Pairs, expected: Pairs) -> None:
    for name in ("first", "second", "support"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(50, 400), min_size=1, max_size=4),
    min_support=st.sampled_from([2, 5, 12]),
    most_new=st.sampled_from([0.125, 10]),
)
def test_pairs_of_graphs_that_come_in_pieces_are_those_of_all(
    seed: int, cuts: list[int], min_support: int, most_new: float
) -> None:
    incidence = zipf_incidence(400, seed, n_items=300, mean_draws=12, n_communities=4, community_size=5)
    connection = database()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remembered, "MAX_NEW_SHARE", most_new)
        for n_graphs in sorted(cuts):
            assert_equal(*counted(connection, incidence, n_graphs, min_support))


def test_a_few_more_graphs_do_not_lead_to_counting_all(monkeypatch: pytest.MonkeyPatch) -> None:
    incidence = zipf_incidence(440, 0, n_items=300, mean_draws=12, n_communities=4, community_size=5)
    connection = database()
    counted(connection, incidence, 400, 12)
    sizes = []

    def noted(of: Incidence, *asked: object) -> Pairs:
        sizes.append(of.n_graphs)
        return count_pairs(of, *asked)

    monkeypatch.setattr(remembered, "count_pairs", noted)
    for n_graphs in (420, 440):
        assert_equal(*counted(connection, incidence, n_graphs, 12))
    assert sizes == [20, 40]


@pytest.mark.parametrize("estimate", [0, 1])
def test_where_there_are_too_many_candidates_all_are_counted(monkeypatch: pytest.MonkeyPatch, estimate: int) -> None:
    """Whether the estimate says so or, after it, the count of candidates that nobody knew."""
    incidence = zipf_incidence(440, 0, n_items=300, mean_draws=12, n_communities=4, community_size=5)
    # as many more graphs hold two items that no graph before held together
    also = Incidence.of(np.repeat(np.arange(440), 2), np.tile([298, 299], 440), (440, 300)).matrix
    also.data[: 2 * 400] = 0
    both = ((incidence.matrix + also) > 0).astype(np.int32)
    both.eliminate_zeros()
    connection = database()
    counted(connection, Incidence(matrix=both), 400, 12)
    monkeypatch.setattr(remembered, "_about_how_many", lambda *_: estimate)
    monkeypatch.setattr(remembered, "MOST_CANDIDATES", 0)
    assert_equal(*counted(connection, Incidence(matrix=both), 440, 12))
    assert connection.execute("SELECT n_graphs FROM state.pairs_counted").fetchall() == [(440,)]
