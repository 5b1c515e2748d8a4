"""Drivers that are killed, that are two, or that come back with other settings, on a cluster that outlives them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ray.cluster_utils import Cluster

from tests.faults.test_kills import DEMO, finish, read_receipts, wait_for_receipts
from tracer.tables.equality import compare_tables

pytestmark = pytest.mark.faults
N_PROMPTS, SHARD_SIZE, N_KILLED = 240, 5, 10


def write_config(path: Path, **sections: dict) -> Path:
    settings = {
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": N_PROMPTS}},
        "runner": {"shard_size": SHARD_SIZE, "n_actors": 2},
        **sections,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config") / "config.yaml")


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(None, config, root, "--inline"))
    return root / "results.duckdb"


def start(cluster: Cluster | None, config: Path, root: Path, *options: str) -> subprocess.Popen:
    """A driver in a process of its own, which joins the cluster."""
    joins = {} if cluster is None else {"RAY_ADDRESS": cluster.address}
    return subprocess.Popen(
        [sys.executable, "-m", "tracer", "run", str(config), "--out", str(root), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | joins,
    )


def refused(driver: subprocess.Popen) -> str:
    """The one message of a driver that does not begin."""
    printed, _ = driver.communicate(timeout=120)
    assert driver.returncode == 2, printed
    messages = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1
    assert "Traceback" not in printed
    return messages[0]


def check_whole(root: Path, undisturbed: Path) -> None:
    assert len(read_receipts(root)) == N_PROMPTS // SHARD_SIZE
    assert compare_tables(undisturbed, root / "results.duckdb") == []


def wait_for_more_receipts(driver: subprocess.Popen, root: Path, n_before: int) -> None:
    """Until it commits something, or ends."""
    while len(read_receipts(root)) <= n_before and driver.poll() is None:
        time.sleep(0.05)


def test_a_driver_with_actors_killed_ten_times_at_random_moments_is_resumed_each_time_to_equal_tables(
    config, undisturbed, machines, tmp_path
):
    chance, root, n_killed, n_interrupted = random.Random(0), tmp_path / "0" / "run", 0, 0
    while n_killed < N_KILLED:
        before = read_receipts(root)
        driver = start(machines, config, root)
        is_while_it_traces = n_killed % 2 == 1
        if is_while_it_traces:
            wait_for_more_receipts(driver, root, len(before))
        try:
            printed, _ = driver.communicate(
                timeout=chance.uniform(0, 2) if is_while_it_traces else chance.uniform(1, 25)
            )
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
            n_killed += 1
            after = read_receipts(root)
            assert {shard: after[shard] for shard in before} == before
            n_interrupted += len(before) < len(after) < N_PROMPTS // SHARD_SIZE
        else:
            assert driver.returncode == 0, printed
            check_whole(root, undisturbed)
            root = tmp_path / str(n_killed) / "run"
    finish(start(machines, config, root))
    check_whole(root, undisturbed)
    assert n_interrupted > 0, "no kill came while it traced"


def test_a_second_driver_is_refused_while_the_first_goes_on(config, undisturbed, machines, tmp_path):
    root = tmp_path / "run"
    first = start(machines, config, root)
    wait_for_receipts(root, first)
    message = refused(start(machines, config, root))
    assert f"found another driver of this run: process {first.pid} on " in message
    finish(first)
    check_whole(root, undisturbed)


def test_other_settings_are_refused_by_name_and_the_first_ones_go_on(config, undisturbed, machines, tmp_path):
    root = tmp_path / "run"
    first = start(None, config, root, "--inline")
    wait_for_receipts(root, first)
    first.kill()
    first.communicate()
    other = write_config(tmp_path / "other.yaml", pruning={"node_threshold": 0.5})
    message = refused(start(None, other, root, "--inline"))
    assert "pruning.node_threshold 0.8" in message
    assert "expected pruning.node_threshold 0.5" in message
    finish(start(machines, config, root))
    check_whole(root, undisturbed)
