"""Machines that join and leave while a run goes on."""

import io
from functools import partial

import pytest
import ray
from ray.cluster_utils import Cluster
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, record_of
from tracer.run import pipeline
from tracer.run.backlog import Backlog
from tracer.run.ledger import Ledger
from tracer.run.pool import ActorPool
from tracer.run.progress import TraceProgress
from tracer.run.protocol.driver import Driver
from tracer.run.tracing import trace_shards
from tracer.run.work import ShardRunner
from tracer.storage.store import open_store
from tracer.tables.equality import compare_tables


@pytest.fixture
def cluster():
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=made.address, log_to_driver=False, logging_level=30)
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_a_pool_grows_with_a_machine_that_joins_and_survives_its_loss(tmp_path, cluster):
    undisturbed, root = tmp_path / "undisturbed" / "run", tmp_path / "disturbed" / "run"
    console = Console(file=io.StringIO(), width=200)
    config = begin_tiny_run(undisturbed, n_prompts=48, shard_size=2)
    whole = pipeline.run(config, undisturbed, inline=True, console=console, make_worker=TinyWorker)
    config = begin_tiny_run(root, n_prompts=48, shard_size=2, n_actors=2, max_attempts=5)
    ledger, shards, nodes, done_by = Ledger(open_store(root)), record_of(root).shards, [], []

    def change_machines(facts: dict) -> None:
        """The first worker brings a machine, on which the second can start, and that one takes it away again."""
        done_by.append(facts["pid"])
        if len(done_by) == 1:
            nodes.append(cluster.add_node(num_cpus=1))
        elif len(done_by) == 2:
            cluster.remove_node(nodes[0], allow_graceful=False)

    pool = ActorPool(
        partial(ShardRunner, root, config, partial(TinyWorker, seconds=1.0)), config.runner, on_start=change_machines
    )
    driver = Driver(Backlog(shards, session=0, max_attempts=5), config.runner, any_committed=False)
    progress = TraceProgress(console, n_shards=len(shards), n_prompts_left=48, n_shards_done=0, n_failures=0)
    try:
        trace_shards(driver, ledger, pool, progress, clock=lambda: 0.0, console=console)
    finally:
        pool.close()
    assert len(done_by) == 2
    assert list(ledger.committed(shards)) == [shard.shard_id for shard in shards]
    result = pipeline.run(config, root, inline=True, console=console, make_worker=TinyWorker)
    assert (result.n_graphs, result.n_failures) == (48, 0)
    assert compare_tables(whole.database, result.database) == []
