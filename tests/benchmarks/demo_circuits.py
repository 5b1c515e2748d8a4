"""Circuits of a run over the toy atlas beside what is known: tasks, and the features that stand for states.

`python -m tests.benchmarks.demo_circuits RUN` prints the adjusted Rand index of the clusters of graphs with the tasks
(of all graphs, those in no cluster being one more cluster), their stability, clusters x tasks, the same over seeds and
halves of the graphs, and which state features are in the consensus circuit of the two-hop task.
"""

from collections import Counter
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Annotated

import duckdb
import numpy as np
import typer
from sklearn.metrics import adjusted_rand_score

from tests.aggregate.circuits.derived import derive
from tracer.aggregate.circuits.build import build_circuits
from tracer.aggregate.circuits.motifs import build_motifs
from tracer.intervene.atlas_measures import state_features
from tracer.model.replacement import ReplacementModel
from tracer.tables.database import Connection
from tracer.tables.quoting import literal

FILES = "package:tracer/model/demo/files"
TWO_HOP = "task=two_hop_capital"


def copied(results: Path, share: float = 1.0, seed: int = 0) -> Connection:
    """Graphs of a run in memory, all or a share of them by hash, with what circuits are made from; any schema version
    whose graphs, nodes and edges are as now.
    """
    connection = duckdb.connect()
    connection.execute(f"ATTACH {literal(str(results))} AS run (READ_ONLY)")
    chosen = f"ORDER BY sha256('{seed}' || graph_id) LIMIT (SELECT (count(*) * {share})::BIGINT FROM run.graphs)"
    connection.execute(f"CREATE TABLE graphs AS SELECT * FROM run.graphs {chosen}")
    connection.execute("CREATE TABLE prompts AS SELECT * FROM run.prompts SEMI JOIN graphs USING (prompt_id)")
    for name in ("nodes", "edges"):
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM run.{name} SEMI JOIN graphs USING (graph_id)")
    connection.execute("DETACH run")
    return connection


def tasks_and_clusters(connection: Connection) -> list[tuple[str, str]]:
    """Of each graph its task and its cluster."""
    return connection.execute(
        "SELECT task, coalesce(circuit_id, 'none') FROM graphs JOIN prompts USING (prompt_id) "
        "LEFT JOIN circuit_graphs USING (graph_id) ORDER BY graph_id"
    ).fetchall()


def summary(connection: Connection, name: str) -> None:
    """Print clusters of graphs beside the tasks, in one line."""
    rows = tasks_and_clusters(connection)
    index = adjusted_rand_score(*zip(*rows, strict=True))
    found = connection.execute("SELECT stability FROM circuits WHERE kind = 'graph_cluster'").fetchall()
    stability = [value for (value,) in found]
    told = f"stability mean {mean(stability):.3f}, least {min(stability):.3f}" if stability else "no clusters"
    print(f"{name}: {len(rows)} graphs, {len(stability)} clusters, ARI with tasks {index:.3f}, {told}")


def contingency(connection: Connection) -> None:
    """Print clusters x tasks."""
    rows = tasks_and_clusters(connection)
    counts, clusters = Counter(rows), sorted({cluster for _, cluster in rows})
    print("\n" + " ".join([f"{'':<18}", *(f"{cluster[-9:]:>9}" for cluster in clusters)]))
    for task in sorted({task for task, _ in rows}):
        print(" ".join([f"{task:<18}", *(f"{counts[task, cluster] or '':>9}" for cluster in clusters)]))
    print()


def state_features_in(connection: Connection, circuit_id: str) -> None:
    """Print for each state its features, how many of them are in the circuit, and their support there."""
    model = ReplacementModel.from_pretrained(f"{FILES}/language_model", f"{FILES}/per_layer", device="cpu")
    found = connection.execute(
        "SELECT layer, feature, support FROM circuit_members WHERE circuit_id = ? AND kind = 'feature'", [circuit_id]
    ).fetchall()
    support = {(layer, feature): n for layer, feature, n in found}
    n_of_state = dict(
        connection.execute(
            "SELECT state, count(*) FROM graphs JOIN prompts USING (prompt_id) "
            "WHERE 'task=' || task = ? GROUP BY state",
            [circuit_id],
        ).fetchall()
    )
    n_covered = 0
    print(f"{circuit_id}: state (graphs): features in the circuit, support; of all features of the state")
    for state, features in sorted(state_features(model).items()):
        inside = sorted((-support[key], key) for key in features if key in support)
        n_covered += bool(inside)
        told = ", ".join(f"L{layer}/{feature}: {-n}" for n, (layer, feature) in inside)
        print(f"  {state} ({n_of_state.get(state, 0)}): {told or '-'}; of {len(features)}")
    print(f"{n_covered} states have a feature in the circuit")


def main(
    run: Annotated[Path, typer.Argument(help="folder of a run over the toy atlas, or its results.duckdb")],
    min_support: int = 5,
    n_seeds: int = 3,
) -> None:
    """Measure and print."""
    results = run / "results.duckdb" if run.is_dir() else run
    connection = copied(results)
    derive(connection, ["task"], min_support)
    start = perf_counter()
    build_circuits(connection, by=["task"], min_support=min_support)
    print(f"circuits in {perf_counter() - start:.1f} s")
    summary(connection, "all graphs, seed 0")
    contingency(connection)
    for kind, n, stability, least, cohesion in connection.execute(
        "SELECT kind, count(*), avg(stability), min(stability), avg(cohesion) FROM circuits GROUP BY kind ORDER BY kind"
    ).fetchall():
        told = "" if cohesion is None else f", cohesion {cohesion:.2f}"
        print(f"{kind}: {n}, stability mean {stability:.2f}, least {least:.2f}{told}")
    print("motifs:", build_motifs(connection, min_support=min_support).told())
    state_features_in(connection, TWO_HOP)
    for seed in range(1, n_seeds):
        _again(results, 1.0, seed, min_support)
    for seed in range(n_seeds):
        _again(results, 0.5, seed, min_support)


def _again(results: Path, share: float, seed: int, min_support: int) -> None:
    connection = copied(results, share, seed)
    derive(connection, ["task"], min_support)
    build_circuits(connection, by=[], min_support=min_support, seed=seed)
    summary(connection, f"share {share}, seed {seed}")
    connection.close()


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    typer.run(main)
