"""Small results databases whose graphs are planted."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa

from tests.aggregate.circuits.derived import derive
from tracer.tables.building import create_table
from tracer.tables.database import Connection
from tracer.tables.schema import TABLES

Feature = tuple[int, int]
TOKEN, LOGIT = 7, 9
MADE = ("prompts", "graphs", "nodes", "edges")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedGraph:
    """Features with influences, edges between them with weights, and a task.

    The first feature also gets an edge from the token, the last one an edge to the logit.
    """

    features: dict[Feature, float]
    edges: dict[tuple[Feature, Feature], float]
    task: str | None = None


def planted_database(
    graphs: Sequence[PlantedGraph], *, min_support: int = 3, reverse: bool = False, state: Connection | None = None
) -> Connection:
    """A database in memory with the graphs, rows in the opposite order where asked, and what derives from them.

    Where the database of some of the graphs is given, it becomes that of them all, beside the state that it has.
    """
    rows: dict[str, list[dict]] = {name: [] for name in MADE}
    for number, graph in enumerate(graphs):
        _add(rows, f"g{number:05}", graph)
    connection = state or duckdb.connect()
    for (name,) in connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = 'memory'"
    ).fetchall():
        connection.execute(f"DROP TABLE memory.{name}")
    for name in MADE:
        create_table(connection, TABLES[name])
        ordered = rows[name][::-1] if reverse else rows[name]
        connection.register("made", pa.Table.from_pylist(ordered, schema=TABLES[name].arrow_schema()))
        connection.execute(f"INSERT INTO {name} SELECT * FROM made")
        connection.unregister("made")
    derive(connection, ["task"], min_support)
    return connection


def _add(rows: dict[str, list[dict]], name: str, graph: PlantedGraph) -> None:
    rows["prompts"].append({"prompt_id": f"p{name}", "task": graph.task})
    rows["graphs"].append({"graph_id": name, "prompt_id": f"p{name}"})
    places: dict[Feature | str, int] = {}

    def node(key: Feature | str, **told: object) -> None:
        places[key] = len(places)
        rows["nodes"].append({"graph_id": name, "node_idx": places[key], **told})

    for (layer, feature), influence in graph.features.items():
        told = {"kind": "feature", "layer": layer, "feature": feature, "pos": 0, "token_id": TOKEN, "token": "t"}
        node((layer, feature), influence=influence, activation=1.0, **told)
    node("token", kind="token", token_id=TOKEN, token="t", pos=0, influence=0.5)
    node("logit", kind="logit", token_id=LOGIT, token="l", pos=1, influence=0.0)
    edges: dict[tuple[Feature | str, Feature | str], float] = dict(graph.edges)
    if graph.features:
        edges["token", next(iter(graph.features))] = 1.0
        edges[list(graph.features)[-1], "logit"] = 1.0
    for (source, target), weight in edges.items():
        ends = {"source_idx": places[source], "target_idx": places[target]}
        rows["edges"].append({"graph_id": name, "weight": weight, "edge_score": abs(weight), **ends})


def planted_communities(
    seed: int, n_communities: int = 4, n_graphs: int = 120, n_own: int = 12, n_held: int = 6
) -> tuple[list[PlantedGraph], list[int]]:
    """Graphs that hold features of their own community, two of them always, and now and then one of anywhere."""
    rng = np.random.default_rng(seed)
    community = rng.integers(n_communities, size=n_graphs).tolist()
    graphs = []
    for own in community:
        drawn = np.union1d(rng.choice(n_own, n_held, replace=False), [0, 1]) + own * n_own
        if rng.random() < 0.3:
            drawn = np.union1d(drawn, rng.integers(n_communities * n_own))
        features = {(int(f) % 2, int(f)): float(rng.uniform(0.05, 0.3)) for f in drawn}
        low, high = [f for f in features if f[0] == 0], [f for f in features if f[0] == 1]
        edges = {(a, b): float(rng.normal(1, 0.2)) for a in low for b in high if rng.random() < 0.8}
        graphs.append(PlantedGraph(features=features, edges=edges, task=f"task{own}"))
    return graphs, community


def structureless(seed: int, n_graphs: int = 120, n_features: int = 60) -> list[PlantedGraph]:
    """Graphs of features drawn independently."""
    rng = np.random.default_rng(seed)
    drawn = (rng.choice(n_features, 7, replace=False) for _ in range(n_graphs))
    return [
        PlantedGraph(features={(0, int(f)): float(rng.uniform(0.05, 0.3)) for f in features}, edges={})
        for features in drawn
    ]
