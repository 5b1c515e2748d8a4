"""Real processes, really killed: the run of the demo model ends with the tables of an undisturbed run."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.tables.database import query
from tracer.tables.equality import compare_tables

DEMO = "package:tracer.model.demo/files"
N_PROMPTS, SHARD_SIZE = 60, 5
DEADLINE_S = 240


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    settings = {
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": N_PROMPTS}},
        "runner": {"shard_size": SHARD_SIZE, "n_actors": 2},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(config, root, "--inline"))
    return root / "results.duckdb"


def start(config: Path, root: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "tracer.cli", "run", str(config), "--out", str(root), *options]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def finish(driver: subprocess.Popen) -> str:
    printed, _ = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 0, printed
    return printed


def wait_for_receipts(root: Path, driver: subprocess.Popen) -> dict[str, dict]:
    """The receipts as soon as there are any."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        receipts = read_receipts(root)
        if receipts:
            return receipts
        assert driver.poll() is None, driver.stdout.read()
        time.sleep(0.02)
    driver.kill()
    raise AssertionError(driver.communicate()[0])


def read_receipts(root: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (root / "shards").glob("[!.]*.json")}


def check_whole(root: Path, undisturbed: Path) -> None:
    """No shard lost or doubled, and equal tables."""
    assert len(read_receipts(root)) == N_PROMPTS // SHARD_SIZE
    counts = query(root / "results.duckdb", "SELECT count(*) AS n, count(DISTINCT prompt_id) AS n_ids FROM graphs")
    assert counts.row(0) == (N_PROMPTS, N_PROMPTS)
    assert query(root / "results.duckdb", "FROM failures").is_empty()
    assert compare_tables(undisturbed, root / "results.duckdb") == []


def test_a_worker_process_killed_in_mid_run_costs_one_attempt_and_changes_no_table(config, undisturbed, tmp_path):
    root = tmp_path / "run"
    driver = start(config, root)
    printed, worker = "", None
    while worker is None:
        line = driver.stdout.readline()
        assert line, f"the driver ended early:\n{printed}"
        printed += line
        worker = re.search(r"worker 1 ready on cpu, process (\d+)", line)
    n_before = len(wait_for_receipts(root, driver))
    os.kill(int(worker[1]), signal.SIGKILL)
    printed += finish(driver)
    assert n_before < N_PROMPTS // SHARD_SIZE
    assert len(re.findall("ActorDiedError.*trying again", printed)) == 1
    assert sorted(receipt["attempt"] for receipt in read_receipts(root).values())[-2:] == [0, 1]
    check_whole(root, undisturbed)


def test_a_killed_driver_run_again_goes_on_from_its_receipts_and_changes_no_table(config, undisturbed, tmp_path):
    root = tmp_path / "run"
    driver = start(config, root)
    wait_for_receipts(root, driver)
    driver.kill()
    driver.communicate()
    before = read_receipts(root)
    assert 0 < len(before) < N_PROMPTS // SHARD_SIZE
    finish(start(config, root))
    after = read_receipts(root)
    assert {shard: after[shard] for shard in before} == before
    assert all(after[shard]["attempt"] == ATTEMPTS_PER_SESSION for shard in after.keys() - before.keys())
    check_whole(root, undisturbed)


@pytest.mark.slow
def test_ctrl_c_ends_with_one_message_and_the_same_command_goes_on(config, undisturbed, tmp_path):
    root = tmp_path / "run"
    driver = start(config, root, "--inline")
    wait_for_receipts(root, driver)
    driver.send_signal(signal.SIGINT)
    printed, _ = driver.communicate(timeout=DEADLINE_S)
    assert driver.returncode == 130, printed
    assert printed.endswith("stopped; the same command goes on from here\n")
    assert "Traceback" not in printed
    assert len(read_receipts(root)) < N_PROMPTS // SHARD_SIZE
    finish(start(config, root, "--inline"))
    check_whole(root, undisturbed)


@pytest.mark.slow
def test_a_driver_killed_ten_times_at_random_moments_ends_with_the_same_tables(config, undisturbed, tmp_path):
    chance, root, n_killed = random.Random(0), tmp_path / "0" / "run", 0
    while n_killed < 10:
        driver = start(config, root, "--inline")
        try:
            driver.communicate(timeout=chance.uniform(1, 15))
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.communicate()
            n_killed += 1
        else:
            check_whole(root, undisturbed)
            root = tmp_path / str(n_killed) / "run"
    finish(start(config, root, "--inline"))
    check_whole(root, undisturbed)
