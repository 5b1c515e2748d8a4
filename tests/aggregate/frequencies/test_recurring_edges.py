"""Edges that recur, and their counts, are those of a grouping of all counts, however the counts came in."""

from collections import Counter

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.aggregate.frequencies import recurring_edges
from tracer.aggregate.frequencies.recurring_edges import list_recurring_edges
from tracer.aggregate.sql import read_sql
from tracer.tables.database import Connection

VALUES = {0: [("", "")], 1: [("", ""), ("task", "a")], 2: [("", ""), ("task", "b")]}
"""Values of each set of them."""
ends = st.integers(-3, 6)
counts = st.lists(st.tuples(st.sampled_from(list(VALUES)), ends, ends, st.integers(1, 4)), max_size=60)


def database() -> Connection:
    connection = duckdb.connect()
    connection.execute("ATTACH ':memory:' AS state")
    connection.execute(
        "CREATE TABLE state.edges (value_set INTEGER, source BIGINT, target BIGINT, support INTEGER, "
        "weight_sum DOUBLE, weight_square_sum DOUBLE, n_positive INTEGER, n_negative INTEGER, edge_score_sum DOUBLE)"
    )
    connection.execute("CREATE TABLE state.value_sets (value_set INTEGER, by_column VARCHAR, by_value VARCHAR)")
    rows = [(value_set, *value) for value_set, values in VALUES.items() for value in values]
    connection.executemany("INSERT INTO state.value_sets VALUES (?, ?, ?)", rows)
    return connection


def add(connection: Connection, pieces: list[tuple[int, int, int, int]]) -> None:
    """Counts whose sums, integers all, are told by their supports."""
    for value_set, source, target, support in pieces:
        connection.execute(
            "INSERT INTO state.edges SELECT ?, ?, ?, n, -n, 2 * n, n - 1, 1, 3 * n FROM (SELECT ?::INTEGER AS n)",
            [value_set, source, target, support],
        )


def counted(connection: Connection, min_support: int) -> dict[tuple[str, str, int, int], tuple[float, ...]]:
    n_known = list_recurring_edges(connection, min_support)
    connection.execute(read_sql("frequencies/edge_counts"), {"n_known": n_known})
    return {row[:4]: row[4:] for row in connection.execute("FROM edge_counts").fetchall()}


def recurring(connection: Connection) -> list[tuple[int, int]]:
    return connection.execute("SELECT source, target FROM recurring_edges").fetchall()


@settings(max_examples=60, deadline=None)
@given(st.lists(counts, min_size=1, max_size=5), st.integers(1, 20))
def test_edges_that_come_in_pieces_are_those_of_a_grouping(pieces: list[list], min_support: int) -> None:
    connection, total = database(), Counter[tuple[int, int]]()
    support, n_rows = Counter[tuple[str, str, int, int]](), Counter[tuple[str, str, int, int]]()
    for piece in pieces:
        add(connection, piece)
        for value_set, source, target, n in piece:
            total[source, target] += n
            for value in VALUES[value_set]:
                support[*value, source, target] += n
                n_rows[*value, source, target] += 1
        found = counted(connection, min_support)
        assert recurring(connection) == sorted(edge for edge, n in total.items() if n >= min_support)
        assert found == {
            key: (n, -n, 2 * n, n - n_rows[key], n_rows[key], 3 * n)
            for key, n in support.items()
            if total[key[2:]] >= min_support
        }


def test_few_new_counts_do_not_lead_to_a_look_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    connection, rng = database(), np.random.default_rng(0)
    ends = np.minimum(rng.zipf(1.3, (4_000, 2)), 400)
    add(connection, [(0, source, target, 1) for source, target in ends.tolist()])
    counted(connection, 25)
    before = recurring(connection)
    monkeypatch.setattr(recurring_edges, "_frequent", None)
    # one edge that nobody knew, one that was one short, and one that comes to half of the minimum
    (nearly,) = connection.execute(
        "SELECT source, target FROM state.edges GROUP BY ALL HAVING sum(support) = 24 ORDER BY ALL LIMIT 1"
    ).fetchall()
    add(connection, [(0, -5, -5, 30), (0, -6, -6, 13), (0, *nearly, 1)])
    found = counted(connection, 25)
    assert recurring(connection) == sorted([*before, (-5, -5), nearly])
    assert found["", "", -5, -5] == (30, -30, 60, 29, 1, 90)
    assert found["", "", *nearly] == (25, -25, 50, 0, 25, 75)
    add(connection, [(1, -6, -6, 12)])
    found = counted(connection, 25)
    assert recurring(connection) == sorted([*before, (-5, -5), nearly, (-6, -6)])
    assert (found["", "", -6, -6][0], found["task", "a", -6, -6][0]) == (25, 12)
