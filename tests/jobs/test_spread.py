"""The same work spread over other numbers of actors and machines gives equal tables."""

import io
import json
from functools import partial
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from tests.jobs.together import Together
from tracer.config import RunConfig, parse_config
from tracer.run import pipeline
from tracer.tables.equality import compare_tables

DEMO = "package:tracer.model.demo/files"
N_PROMPTS, SHARD_SIZE = 48, 4


def settings(n_actors: int) -> RunConfig:
    return parse_config({
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": N_PROMPTS}},
        "runner": {"shard_size": SHARD_SIZE, "n_actors": n_actors},
    })


@pytest.fixture(scope="module")
def inline(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("inline") / "run"
    return pipeline.run(settings(1), root, inline=True, console=Console(file=io.StringIO())).database


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_actors", "cpus_by_machine"),
    [(1, (4,)), (2, (4,)), (4, (4,)), (1, (1, 1, 1)), (2, (1, 1, 1)), (4, (2, 1, 1))],
    ids=lambda value: "+".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_tables_do_not_depend_on_actors_or_machines(n_actors, cpus_by_machine, inline, tmp_path):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus_by_machine[0], "include_dashboard": False})
    try:
        for n_cpus in cpus_by_machine[1:]:
            cluster.add_node(num_cpus=n_cpus)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        make_worker = partial(Together, folder=tmp_path / "ready", n_actors=n_actors)
        console = Console(file=io.StringIO())
        result = pipeline.run(settings(n_actors), tmp_path / "run", console=console, make_worker=make_worker)
        assert len([node for node in ray.nodes() if node["Alive"]]) == len(cpus_by_machine)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert (
        len({json.loads(path.read_text())["pid"] for path in (tmp_path / "run" / "shards").glob("*.json")}) == n_actors
    )
    assert (result.n_graphs, result.n_failures) == (N_PROMPTS, 0)
    assert compare_tables(inline, result.database) == []
