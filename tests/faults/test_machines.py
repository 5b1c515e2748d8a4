"""Machines that are lost, one or two at once of three, with the actors that they held."""

from functools import partial

import pytest

from tests.faults.disturbing import (
    SlowTraceWorker,
    check_whole,
    disturbed,
    n_retried,
    quiet,
    undisturbed_tiny_run,
)
from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tracer.config import parse_config
from tracer.run import pipeline

pytestmark = pytest.mark.faults
DEMO = "package:tracer.model.demo/files"


def lose(machines, n_machines: int) -> None:
    """Take machines away at once, as a power cut does."""
    for node in list(machines.worker_nodes)[:n_machines]:
        machines.remove_node(node, allow_graceful=False)


@pytest.fixture
def three(machines):
    """The cluster with its three machines, which are there again for the next case."""
    yield machines
    while len(machines.worker_nodes) < 3:
        machines.add_node(num_cpus=1)
    machines.wait_for_nodes()


@pytest.mark.parametrize("n_machines", [1, 2])
def test_machines_lost_at_once_cost_attempts_and_change_no_table(n_machines, three, tmp_path):
    undisturbed, root = undisturbed_tiny_run(tmp_path / "undisturbed" / "run"), tmp_path / "disturbed" / "run"
    config = begin_tiny_run(root, n_prompts=48, shard_size=2, n_actors=3)
    make_worker = partial(TinyWorker, seconds=1.0)
    result = disturbed(config, root, make_worker, lambda: lose(three, n_machines), after_n_shards=6)
    check_whole(result, undisturbed)
    assert n_retried(root) == n_machines


def test_two_machines_lost_under_the_demo_model_change_no_table(three, tmp_path):
    config = parse_config({
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": 48}},
        "runner": {"shard_size": 3, "n_actors": 3},
    })
    undisturbed = pipeline.run(config, tmp_path / "undisturbed", inline=True, console=quiet()).database
    result = disturbed(config, tmp_path / "run", SlowTraceWorker, lambda: lose(three, 2), after_n_shards=4)
    check_whole(result, undisturbed)
    assert n_retried(tmp_path / "run") == 2
