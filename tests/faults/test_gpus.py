"""GPUs that nobody looks for, since Ray counts what it is told: shares of them, machines that bring some, too few."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from tests.faults.disturbing import (
    DEADLINE_S,
    N_PROMPTS,
    SHARD_SIZE,
    check_whole,
    n_retried,
    quiet,
    receipts,
    undisturbed_tiny_run,
    wait_until,
)
from tests.run.test_metrics import scraped_in_time
from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tracer.config import RunConfig, RunnerConfig
from tracer.errors import RunError
from tracer.run import pipeline

pytestmark = pytest.mark.faults


FIRST_HELD = 12
"""The shard with this prompt, and those after it, wait until they may go on."""


class SeenWorker(TinyWorker):
    """Leaves a file that says on which machine it is and which GPU it may use; waits half-way for a file `go_on`."""

    def __init__(self, config: RunConfig, *, folder: Path) -> None:
        super().__init__(config)
        self._go_on = folder / "go_on"
        folder.mkdir(exist_ok=True)
        machine, gpu = ray.get_runtime_context().get_node_id(), os.environ["CUDA_VISIBLE_DEVICES"]
        (folder / f"{os.getpid()}.json").write_text(json.dumps({"machine": machine, "gpu": gpu}))

    def trace(self, prompts, shard_id, attempt, **settings):
        """As `TinyWorker.trace`."""
        deadline = time.monotonic() + DEADLINE_S
        while prompts[0].metadata["number"] >= FIRST_HELD and not self._go_on.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        return super().trace(prompts, shard_id, attempt, **settings)


DEMAND_S = 60.0
"""How long it may take to say that a demand cannot be met."""


@pytest.fixture
def two_gpus():
    ray.init(
        address="local",
        num_cpus=4,
        num_gpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=30,
        _system_config={"metrics_report_interval_ms": 200},
    )
    yield
    ray.shutdown()


@pytest.fixture
def cluster():
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 0, "include_dashboard": False})
    try:
        ray.init(address=made.address, log_to_driver=False, logging_level=30)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@contextmanager
def running(config: RunConfig, root: Path, folder: Path) -> Iterator[Future]:
    """A run in a thread, which has done all that does not wait; it goes on when the block ends."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        make_worker = partial(SeenWorker, folder=folder)
        run = threads.submit(pipeline.run, config, root, console=quiet(), make_worker=make_worker)
        try:
            wait_until(lambda: len(receipts(root)) == FIRST_HELD // SHARD_SIZE, run)
            yield run
        finally:
            (folder / "go_on").touch()
        run.result(timeout=DEADLINE_S)


def seen(folder: Path) -> list[dict]:
    """Where every worker is that ever was."""
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def is_running(pid: int) -> bool:
    """Whether there is such a process, dead ones that nobody has asked after left out."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def by_gpu(workers: list[dict]) -> list[int]:
    """How many have the same GPU."""
    return sorted(Counter((worker["machine"], worker["gpu"]) for worker in workers).values())


def ledger_says(root: Path) -> dict[str, float]:
    """The counts that Prometheus shows, from the receipts."""
    n_shards, found = len(json.loads((root / "run.json").read_text())["shards"]), receipts(root).values()
    return {
        "prompts": sum(receipt["n_prompts"] for receipt in found),
        "graphs": sum(receipt["parts"]["graphs"]["n_rows"] for receipt in found),
        "rows": sum(part["n_rows"] for receipt in found for part in receipt["parts"].values()),
        "shards": len(found),
        "shards_left": n_shards - len(found),
        "shards_given_up": 0,
    }


def status_says(root: Path) -> dict[str, float]:
    """The same counts, as `tracer status --json` shows them."""
    command = [sys.executable, "-m", "tracer", "status", str(root), "--json"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {
        "prompts": shown["n_prompts_done"],
        "graphs": shown["n_graphs"],
        "rows": shown["n_rows"],
        "shards": shown["n_shards_done"],
        "shards_left": shown["n_shards_left"],
        "shards_given_up": shown["n_shards_given_up"],
    }


def test_four_actors_share_two_gpus_and_whoever_counts_says_what_the_ledger_says(tmp_path, two_gpus):
    undisturbed, root = undisturbed_tiny_run(tmp_path / "undisturbed" / "run"), tmp_path / "disturbed" / tmp_path.name
    folder = tmp_path / "seen"
    config = begin_tiny_run(
        root, n_prompts=N_PROMPTS, shard_size=SHARD_SIZE, n_actors=4, min_actors=4, gpus_per_actor=0.5
    )
    with running(config, root, folder) as run:
        wait_until(lambda: len(seen(folder)) == 4, run)
        during = ledger_says(root)
        assert (during["shards"], during["shards_left"]) == (6, 18)
        assert status_says(root) == during
        assert scraped_in_time(root, 0, during) == during
    assert by_gpu(seen(folder)) == [2, 2]
    assert {worker["gpu"] for worker in seen(folder)} == {"0", "1"}
    after = ledger_says(root)
    assert (after["shards"], after["shards_left"]) == (24, 0)
    assert status_says(root) == after
    assert scraped_in_time(root, 0, after) == after
    check_whole(run.result(), undisturbed)


def test_the_pool_grows_with_machines_that_bring_gpus_and_shrinks_when_they_go(cluster, tmp_path):
    undisturbed, root = undisturbed_tiny_run(tmp_path / "undisturbed" / "run"), tmp_path / "disturbed" / "run"
    first, folder = cluster.add_node(num_cpus=4, num_gpus=1), tmp_path / "seen"
    config = begin_tiny_run(
        root, n_prompts=N_PROMPTS, shard_size=SHARD_SIZE, n_actors=4, gpus_per_actor=0.5, max_attempts=5
    )
    with running(config, root, folder) as run:
        assert by_gpu(seen(folder)) == [2]
        lost = [int(path.stem) for path in folder.glob("*.json")]
        cluster.add_node(num_cpus=4, num_gpus=1)
        wait_until(lambda: len(seen(folder)) == 4, run)
        cluster.remove_node(first, allow_graceful=False)
        # The processes of a machine outlive it here for a moment, in which they could finish their shards.
        wait_until(lambda: not any(is_running(pid) for pid in lost), run)
    assert by_gpu(seen(folder)) == [2, 2], "for those that were lost there was no room again"
    assert n_retried(root) == 2
    check_whole(run.result(), undisturbed)


def test_a_demand_for_gpus_that_nobody_brings_is_an_error_that_names_them(cluster, tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root, gpus_per_actor=1, n_actors=2)
    assert RunnerConfig().node_wait_s < DEMAND_S
    complaint = r"room for 0 actor\(s\); missing: 1 GPU; expected room for 1 actor"
    with ThreadPoolExecutor(max_workers=1) as threads:
        run = threads.submit(pipeline.run, config, root, console=quiet(), make_worker=TinyWorker)
        with pytest.raises(RunError, match=complaint):
            run.result(timeout=DEMAND_S)
