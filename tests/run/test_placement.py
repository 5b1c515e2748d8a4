"""On which machines actors lie, and how many threads they take there."""

import os
from collections import Counter
from functools import partial

import pytest
import ray
from ray.cluster_utils import Cluster

from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tracer.run.pool import ActorPool
from tracer.run.protocol.messages import Spawn, WorkerUp
from tracer.run.work import ShardRunner

pytestmark = pytest.mark.slow


class PlacedWorker(TinyWorker):
    """Says where it is and how many threads numeric libraries take."""

    def facts(self) -> dict:
        """As `TinyWorker.facts`."""
        machine, n_threads = ray.get_runtime_context().get_node_id(), os.environ["OMP_NUM_THREADS"]
        return {**super().facts(), "machine": machine, "n_threads": n_threads}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Three machines with room for three actors each; the head holds none."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(3):
            made.add_node(num_cpus=3)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=30)
        yield
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.parametrize("n_actors", [3, 6])
def test_actors_without_gpus_are_spread_over_the_machines(n_actors, tmp_path):
    root, told = tmp_path / "run", []
    config = begin_tiny_run(root, n_actors=n_actors, n_threads=1)
    pool = ActorPool(partial(ShardRunner, root, config, PlacedWorker), config.runner, on_start=told.append)
    try:
        for worker in range(n_actors):
            pool.perform(Spawn(worker))
        up = set()
        while len(up) < n_actors:
            up |= {event.worker for event in pool.events() if isinstance(event, WorkerUp)}
    finally:
        pool.close()
    assert list(Counter(facts["machine"] for facts in told).values()) == [n_actors // 3] * 3
    assert {facts["n_threads"] for facts in told} == {"1"}
