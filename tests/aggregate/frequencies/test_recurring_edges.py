"""Edges that recur are those of a grouping of all counts, however the counts came in."""

from collections import Counter

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.aggregate.frequencies import recurring_edges
from tracer.aggregate.frequencies.recurring_edges import list_recurring_edges
from tracer.tables.database import Connection

ends = st.integers(-3, 6)
counts = st.lists(st.tuples(ends, ends, st.integers(1, 4)), max_size=60)


def database() -> Connection:
    connection = duckdb.connect()
    connection.execute("ATTACH ':memory:' AS state")
    connection.execute("CREATE TABLE state.edges (value_set INTEGER, source BIGINT, target BIGINT, support INTEGER)")
    return connection


def recurring(connection: Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT source, target FROM recurring_edges").fetchall()


@settings(max_examples=60, deadline=None)
@given(st.lists(counts, min_size=1, max_size=5), st.integers(1, 20))
def test_edges_that_come_in_pieces_are_those_of_a_grouping(pieces: list[list], min_support: int) -> None:
    connection, total = database(), Counter[tuple[int, int]]()
    for piece in pieces:
        for source, target, support in piece:
            connection.execute("INSERT INTO state.edges VALUES (0, ?, ?, ?)", [source, target, support])
            total[source, target] += support
        list_recurring_edges(connection, min_support)
        assert recurring(connection) == sorted(edge for edge, support in total.items() if support >= min_support)


def test_few_new_counts_do_not_lead_to_a_look_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, rng = database(), np.random.default_rng(0)
    ends = np.minimum(rng.zipf(1.3, (20_000, 2)), 400)
    connection.executemany("INSERT INTO state.edges VALUES (0, ?, ?, 1)", ends.tolist())
    list_recurring_edges(connection, 50)
    before = recurring(connection)
    monkeypatch.setattr(recurring_edges, "_frequent", None)
    # one edge that nobody knew, one that was one short, and one that comes to half of the minimum
    connection.execute("INSERT INTO state.edges SELECT 0, -5, -5, 1 FROM range(60)")
    connection.execute("INSERT INTO state.edges SELECT 0, -6, -6, 1 FROM range(25)")
    (nearly,) = connection.execute(
        "SELECT source, target FROM state.edges GROUP BY ALL HAVING sum(support) = 49 ORDER BY ALL LIMIT 1"
    ).fetchall()
    connection.execute("INSERT INTO state.edges VALUES (0, ?, ?, 1)", nearly)
    list_recurring_edges(connection, 50)
    assert recurring(connection) == sorted([*before, (-5, -5), nearly])
    connection.execute("INSERT INTO state.edges SELECT 0, -6, -6, 1 FROM range(25)")
    list_recurring_edges(connection, 50)
    assert recurring(connection) == sorted([*before, (-5, -5), nearly, (-6, -6)])
