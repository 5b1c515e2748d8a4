"""Motifs: exact counts against loops over every graph, expectation by its formula, bounds that are told."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.aggregate.circuits.planted import Feature, PlantedGraph, planted_communities, planted_database
from tracer.aggregate.circuits import motif_counts, remembered_motifs
from tracer.aggregate.circuits.motif_candidates import find_candidates
from tracer.aggregate.circuits.motif_counts import Patterns, RecurringEdges, count_patterns
from tracer.aggregate.circuits.motifs import build_motifs
from tracer.aggregate.tasks import TaskMap
from tracer.config import MotifConfig
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES

FEATURES = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
POSSIBLE = [(a, b) for a, b in permutations(FEATURES, 2) if a[0] < b[0]]
graph_edges = st.sets(st.sampled_from(POSSIBLE))


def graph_of(edges: set[tuple[Feature, Feature]], also: set[Feature]) -> PlantedGraph:
    held = sorted({end for edge in edges for end in edge} | also)
    return PlantedGraph(features=dict.fromkeys(held, 0.1), edges=dict.fromkeys(edges, 1.0))


def edges_of(shape: str, a: Feature, b: Feature, c: Feature) -> list[tuple[Feature, Feature]]:
    return {
        "chain": [(a, b), (b, c)],
        "fan_out": [(a, b), (a, c)],
        "fan_in": [(a, c), (b, c)],
        "feed_forward": [(a, b), (b, c), (a, c)],
    }[shape]


def is_in_order(shape: str, a: Feature, b: Feature, c: Feature) -> bool:
    return {"fan_out": b < c, "fan_in": a < b}.get(shape, True)


def by_loops(graphs: list[PlantedGraph], min_support: int) -> dict[tuple, tuple[int, int, float]]:
    """Support, graphs with the nodes, and expectation of every motif."""
    support = {edge: sum(edge in graph.edges for graph in graphs) for edge in POSSIBLE}
    found = {}
    for shape in ("chain", "fan_out", "fan_in", "feed_forward"):
        for a, b, c in permutations(FEATURES, 3):
            edges = edges_of(shape, a, b, c)
            if not is_in_order(shape, a, b, c) or any(support.get(edge, 0) < min_support for edge in edges):
                continue
            n_all = sum(all(edge in graph.edges for edge in edges) for graph in graphs)
            if n_all < min_support:
                continue
            n_nodes = sum({a, b, c} <= set(graph.features) for graph in graphs)
            kept = [support[edge] / sum(set(edge) <= set(graph.features) for graph in graphs) for edge in edges]
            found[shape, *a, *b, *c] = (n_all, n_nodes, n_nodes * float(np.prod(kept)))
    return found


@settings(max_examples=10)
@given(
    drawn=st.lists(st.tuples(graph_edges, st.sets(st.sampled_from(FEATURES))), min_size=1, max_size=8),
    min_support=st.integers(1, 3),
)
def test_motifs_equal_those_of_loops(drawn: list[tuple[set, set]], min_support: int) -> None:
    graphs = [graph_of(edges, also) for edges, also in drawn]
    connection = planted_database(graphs, min_support=min_support)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motif_counts, "GRAPHS_PER_BLOCK", 3)
        build_motifs(connection, min_support=min_support)
    found = {
        row[:7]: row[7:]
        for row in connection.execute("SELECT * EXCLUDE (lift, p_above, q_above) FROM motifs").fetchall()
    }
    assert {key: told[:2] for key, told in found.items()} == {
        key: told[:2] for key, told in by_loops(graphs, min_support).items()
    }
    for key, told in by_loops(graphs, min_support).items():
        assert found[key][2] == pytest.approx(told[2], rel=1e-12)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**31), max_graphs=st.integers(20, 130), cuts=st.sets(st.integers(5, 119), max_size=2))
def test_motifs_of_graphs_that_come_in_pieces_are_those_of_all(seed: int, max_graphs: int, cuts: set[int]) -> None:
    graphs, _ = planted_communities(seed)
    asked = {"min_support": 3, "settings": MotifConfig(max_graphs=max_graphs, max_candidates=400)}
    whole = planted_database(graphs)
    told = build_motifs(whole, **asked)
    grown = None
    for n_graphs in [*sorted(cuts), len(graphs)]:
        grown = planted_database(graphs[:n_graphs], state=grown)
        told_of_grown = build_motifs(grown, **asked)
    assert told_of_grown == told
    sql = f"SELECT * FROM motifs ORDER BY {', '.join(TABLES['motifs'].key)}"
    assert grown.execute(sql).fetchall() == whole.execute(sql).fetchall()


def test_of_a_few_more_graphs_only_these_and_new_motifs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, _ = planted_communities(0)
    grown = planted_database(graphs[:100])
    first = build_motifs(grown, min_support=3)
    grown = planted_database(graphs, state=grown)
    counted = {}

    def noted(connection: Connection, of: str, edges: RecurringEdges, patterns: Patterns, run: TaskMap) -> np.ndarray:
        counted[of] = len(patterns.shape)
        return count_patterns(connection, of, edges, patterns, run)

    monkeypatch.setattr(remembered_motifs, "count_patterns", noted)
    build_motifs(grown, min_support=3)
    assert counted["motif_entered"] >= 0.9 * sum(first.n_candidates.values())
    assert 0 < counted["motif_sample"] < 0.2 * counted["motif_entered"]


def test_the_tail_is_poissons_and_q_is_over_all_candidates_of_the_shape() -> None:
    graphs, _ = planted_communities(0)
    connection = planted_database(graphs)
    counts = build_motifs(connection, min_support=3)
    rows = connection.execute("SELECT shape, support, expected, lift, p_above, q_above FROM motifs").fetchall()
    for shape in {row[0] for row in rows}:
        support, expected, lift, p, q = np.array([row[1:] for row in rows if row[0] == shape]).T
        np.testing.assert_allclose(lift, support / expected)
        np.testing.assert_allclose(p, stats.poisson.sf(support - 1, expected), rtol=1e-9)
        everything = np.concatenate([p, np.ones(counts.n_candidates[shape] - len(p))])
        np.testing.assert_allclose(q, stats.false_discovery_control(everything)[: len(q)], rtol=1e-9)


def test_edges_that_go_together_beyond_chance_are_significant_and_independent_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    a, b, c, d = (0, 0), (1, 0), (1, 1), (1, 2)
    graphs = []
    for together, apart in zip(rng.random(400) < 0.2, rng.random(400) < 0.2, strict=True):
        edges = {edge for edge, kept in (((a, b), together), ((a, c), together), ((a, d), apart)) if kept}
        graphs.append(graph_of(edges, {a, b, c, d}))
    connection = planted_database(graphs)
    build_motifs(connection, min_support=3)
    found = {
        (b_, c_): q for b_, c_, q in connection.execute("SELECT feature_b, feature_c, q_above FROM motifs").fetchall()
    }
    assert found[0, 1] < 1e-6
    assert all(q > 0.05 for pair, q in found.items() if pair != (0, 1))


def test_bounds_bite_where_they_should_and_are_told(caplog: pytest.LogCaptureFixture) -> None:
    source = np.repeat(0, 30)
    target, support = np.arange(1, 31), np.arange(30, 0, -1)
    whole = find_candidates(source, target, support, max_edges_per_side=100, max_candidates=10_000)
    assert [len(motifs.edges) for motifs in whole.motifs] == [0, 0, 435, 0]
    assert (whole.min_support_combined, whole.n_edges_left_out) == (1, 0)
    narrow = find_candidates(source, target, support, max_edges_per_side=4, max_candidates=10_000)
    assert narrow.motifs[2].edges.tolist() == [list(pair) for pair in combinations(range(4), 2)]
    assert narrow.n_edges_left_out == 26
    few = find_candidates(source, target, support, max_edges_per_side=100, max_candidates=10)
    assert few.min_support_combined == 26
    assert len(few.motifs[2].edges) == 10
    connection = planted_database(planted_communities(0)[0])
    counts = build_motifs(connection, min_support=3, settings=MotifConfig(max_graphs=100, max_candidates=50))
    assert counts.n_graphs_counted == 100
    assert counts.min_support_combined > 3
    assert sum(counts.n_candidates[shape] for shape in ("chain", "fan_out", "fan_in")) <= 50
    (comment,) = connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'motifs'").fetchall()[0]
    assert "counted on 100 of 120 graphs" in comment
    assert "counted on 100 of 120 graphs" in caplog.text


@pytest.mark.parametrize("graphs", [[], [graph_of(set(), {(0, 0)})], [graph_of({((0, 0), (1, 0))}, set())] * 5])
def test_too_little_makes_no_motifs(graphs: list[PlantedGraph]) -> None:
    connection = planted_database(graphs)
    build_motifs(connection, min_support=3)
    assert connection.execute("SELECT count(*) FROM motifs").fetchall() == [(0,)]
