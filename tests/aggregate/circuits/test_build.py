"""All kinds of circuits on planted graphs: what was planted is found, what was not is not, order leaves no trace."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tests.aggregate.circuits.planted import (
    LOGIT,
    TOKEN,
    PlantedGraph,
    planted_communities,
    planted_database,
    structureless,
)
from tracer.aggregate.circuits.build import build_circuits
from tracer.config import CircuitConfig
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES

CIRCUIT_TABLES = ("circuits", "circuit_members", "circuit_graphs", "circuit_edges")
QUICK = CircuitConfig(n_resamples=4, max_clusters=6)


def built(graphs: list[PlantedGraph], *, reverse: bool = False, settings: CircuitConfig = QUICK) -> Connection:
    connection = planted_database(graphs, reverse=reverse)
    build_circuits(connection, by=["task"], min_support=3, settings=settings)
    return connection


def rows(connection: Connection, sql: str) -> list[tuple]:
    return connection.execute(sql).fetchall()


def label_of_graphs(connection: Connection) -> list[str]:
    sql = "SELECT coalesce(circuit_id, 'none') FROM graphs LEFT JOIN circuit_graphs USING (graph_id) ORDER BY graph_id"
    return [label for (label,) in rows(connection, sql)]


def assert_equal(one: Connection, other: Connection) -> None:
    """All circuit tables of both are equal, numbers up to rounding."""
    for name in CIRCUIT_TABLES:
        both = [connection.execute(f"FROM {name}").fetchnumpy() for connection in (one, other)]
        for column in TABLES[name].columns:
            first, second = (np.ma.asarray(table[column.name]) for table in both)
            assert np.array_equal(np.ma.getmaskarray(first), np.ma.getmaskarray(second))
            if first.dtype.kind == "f":
                np.testing.assert_allclose(first.compressed(), second.compressed(), rtol=1e-9)
            else:
                assert first.tolist() == second.tolist()


@pytest.fixture(scope="module")
def found() -> Connection:
    return built(planted_communities(0)[0])


@pytest.mark.parametrize("seed", range(3))
def test_planted_communities_of_graphs_and_features_are_found(seed: int) -> None:
    graphs, community = planted_communities(seed)
    connection = built(graphs)
    assert adjusted_rand_score(community, label_of_graphs(connection)) > 0.95
    clusters = rows(connection, "SELECT stability, cohesion, n_graphs FROM circuits WHERE kind = 'graph_cluster'")
    assert len(clusters) == 4
    assert min(stability for stability, _, _ in clusters) > 0.9
    assert all(0 < cohesion <= 1 for _, cohesion, _ in clusters)
    assert sum(n for _, _, n in clusters) == len(graphs)
    found = rows(
        connection,
        "SELECT feature // 12 AS community, circuit_id FROM circuit_members JOIN circuits USING (circuit_id) "
        "WHERE circuits.kind = 'feature_cluster'",
    )
    assert len(found) >= 40
    assert adjusted_rand_score(*zip(*found, strict=True)) > 0.9


@pytest.mark.parametrize("seed", range(2))
def test_graphs_without_structure_are_in_no_stable_cluster(seed: int) -> None:
    connection = built(structureless(seed))
    stability = rows(connection, "SELECT stability FROM circuits WHERE kind IN ('graph_cluster', 'feature_cluster')")
    assert all(value < 0.75 for (value,) in stability)


def test_the_order_of_rows_leaves_no_trace(found: Connection) -> None:
    assert_equal(found, built(planted_communities(0)[0], reverse=True))


def test_circuits_of_graphs_that_come_in_pieces_are_those_of_all() -> None:
    graphs, _ = planted_communities(3)
    few = CircuitConfig(n_resamples=2, max_clusters=4, max_graphs=40, max_graphs_per_value=10)
    whole, grown = built(graphs, settings=few), None
    for n_graphs in (60, 90, len(graphs)):
        grown = planted_database(graphs[:n_graphs], state=grown)
        build_circuits(grown, by=["task"], min_support=3, settings=few)
    assert_equal(grown, whole)
    (of_sample,) = rows(grown, "SELECT count(*) FROM state.sampled_graphs")
    assert of_sample == (
        len({graph for (graph,) in rows(grown, "SELECT DISTINCT graph_idx FROM state.sampled_edges")}),
    )
    assert of_sample[0] < len(graphs)


def test_rows_are_sorted_and_keys_are_unique(found: Connection) -> None:
    for name in CIRCUIT_TABLES:
        keys = rows(found, f"SELECT {', '.join(TABLES[name].key)} FROM {name}")
        assert keys == sorted(set(keys))
        assert keys


def test_a_consensus_counts_its_nodes_and_edges(found: Connection) -> None:
    (circuit,) = rows(
        found,
        "SELECT by_column, by_value, n_graphs, n_members, stability FROM circuits WHERE circuit_id = 'task=task1'",
    )
    graphs = [graph for graph in planted_communities(0)[0] if graph.task == "task1"]
    assert circuit[:3] == ("task", "task1", len(graphs))
    assert 0.5 < circuit[4] <= 1
    members = rows(found, "SELECT * FROM circuit_members WHERE circuit_id = 'task=task1'")
    assert circuit[3] == len(members)
    held = {(row[2], row[3]): row[5] for row in members if row[1] == "feature"}
    assert held == {
        feature: n
        for feature in {feature for graph in graphs for feature in graph.features}
        if (n := sum(feature in graph.features for graph in graphs)) >= 3
    }
    assert [row[2:7] for row in members if row[1] == "token"] == [(-1, TOKEN, "t", len(graphs), 1.0)]
    assert [row[2:7] for row in members if row[1] == "logit"] == [(-1, LOGIT, "l", len(graphs), 1.0)]
    edges = rows(
        found,
        "SELECT source_layer, source_feature, target_layer, target_feature, support FROM circuit_edges "
        "WHERE circuit_id = 'task=task1' AND source_kind = 'feature' AND target_kind = 'feature'",
    )
    for *ends, support in edges:
        edge = ((ends[0], ends[1]), (ends[2], ends[3]))
        assert support == sum(edge in graph.edges for graph in graphs) >= 3


def test_a_bound_on_edges_is_kept_and_told() -> None:
    connection = built(planted_communities(0)[0], settings=CircuitConfig(n_resamples=2, max_edges=5, max_clusters=5))
    counted = rows(connection, "SELECT count(*) FROM circuit_edges GROUP BY circuit_id")
    assert counted == [(5,)] * 4
    (method,) = rows(connection, "SELECT method FROM circuits WHERE circuit_id = 'task=task0'")[0]
    assert ": 5 of " in method


def test_features_with_one_role_are_a_supernode() -> None:
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(60):
        # three sources of target (2, 0), three of target (2, 1), two of each group in a graph
        chosen = [*rng.choice(3, 2, replace=False), *(rng.choice(3, 2, replace=False) + 3)]
        sources = [(1, int(place)) for place in chosen]
        features = {source: 0.1 for source in sources} | {(2, 0): 0.2, (2, 1): 0.2}
        edges = {(source, (2, int(source[1] >= 3))): float(rng.normal(1, 0.1)) for source in sources}
        graphs.append(PlantedGraph(features=features, edges=edges, task="t"))
    connection = built(graphs)
    for kind, parent in (("supernode", "task=t"), ("profile_cluster", None)):
        found = rows(
            connection,
            "SELECT circuit_id, parent_id, stability, list(feature ORDER BY feature) FROM circuit_members "
            f"JOIN circuits USING (circuit_id) WHERE circuits.kind = '{kind}' AND layer = 1 GROUP BY ALL",
        )
        assert sorted(members for *_, members in found) == [[0, 1, 2], [3, 4, 5]]
        assert all(parent_id == parent and stability > 0.9 for _, parent_id, stability, _ in found)


def test_graphs_without_features_are_in_no_cluster() -> None:
    graphs, _ = planted_communities(1)
    connection = built([*graphs, PlantedGraph(features={}, edges={}), PlantedGraph(features={}, edges={})])
    assert label_of_graphs(connection)[-2:] == ["none", "none"]
    assert "none" not in label_of_graphs(connection)[:-2]


def test_graphs_beyond_the_sample_are_assigned() -> None:
    graphs, community = planted_communities(2, n_graphs=400)
    connection = built(graphs, settings=CircuitConfig(n_resamples=4, max_clusters=6, max_graphs=120))
    assert adjusted_rand_score(community, label_of_graphs(connection)) > 0.95
    (method,) = rows(connection, "SELECT DISTINCT method FROM circuits WHERE kind = 'graph_cluster'")[0]
    assert "120 graphs sampled by hash" in method


ONE = PlantedGraph(features={(0, 1): 0.5}, edges={}, task="t")


@pytest.mark.parametrize(
    "graphs",
    [[], [ONE], [ONE] * 20, [PlantedGraph(features={}, edges={}, task="t")] * 5],
    ids=["no graph", "one graph", "one feature", "no feature"],
)
def test_too_little_makes_no_clusters(graphs: list[PlantedGraph]) -> None:
    connection = built(graphs)
    kinds = dict(rows(connection, "SELECT kind, count(*) FROM circuits GROUP BY kind"))
    # the feature of twenty graphs recurs with its token and logit, which is a consensus and nothing more
    assert kinds == ({"consensus": 1} if len(graphs) == 20 else {})
    assert rows(connection, "SELECT count(*) FROM circuit_graphs") == [(0,)]
