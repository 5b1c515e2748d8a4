"""What a status says equals the ledger: while a run works, after it stopped, and after it ended."""

import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty, record_of
from tracer.errors import ArtifactError
from tracer.run import pipeline
from tracer.run.backlog import Assignment
from tracer.run.ledger import Ledger
from tracer.run.status import read_status
from tracer.run.work import ShardRunner
from tracer.storage.store import open_store


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a").mkdir()
    return tmp_path / "a" / "run"


def trace(root, config, make_worker=TinyWorker):
    return pipeline.trace(config, root, inline=True, console=Console(file=io.StringIO()), make_worker=make_worker)


def check_against_the_ledger(root, status):
    receipts = Ledger(open_store(root)).committed(record_of(root).shards).values()
    assert status.n_shards_done == len(receipts)
    assert status.n_shards_left == 4 - len(receipts) - status.n_shards_given_up
    assert status.n_prompts_done == sum(receipt.n_prompts for receipt in receipts)
    assert status.n_graphs == sum(receipt.parts["graphs"].n_rows for receipt in receipts)
    assert status.n_rows == sum(part.n_rows for receipt in receipts for part in receipt.parts.values())
    assert sum(actor.n_shards for actor in status.actors) == len(receipts)
    assert sum(actor.busy_seconds for actor in status.actors) == pytest.approx(
        sum(receipt.seconds for receipt in receipts)
    )


def test_a_status_equals_the_ledger_at_every_shard_of_a_run_and_after_it(root):
    config, seen = begin_tiny_run(root), []

    class Watched(TinyWorker):
        def trace(self, prompts, shard_id, attempt, **settings):
            seen.append(read_status(root))
            check_against_the_ledger(root, seen[-1])
            return super().trace(prompts, shard_id, attempt, **settings)

    before = read_status(root)
    assert (before.state, before.prompts_per_second, before.seconds_left) == ("stopped", None, None)
    assert before.cost.hours_expected is None
    trace(root, config, Watched)
    assert [status.n_shards_done for status in seen] == [0, 1, 2, 3]
    assert {status.state for status in seen} == {"running"}
    assert all("process" in status.driver for status in seen)
    after = read_status(root)
    check_against_the_ledger(root, after)
    assert (after.state, after.driver, after.n_shards_left, after.seconds_left) == ("traced", None, 0, 0.0)


def test_another_process_can_ask_while_a_run_works_without_disturbing_it(root):
    config, told = begin_tiny_run(root), []

    class Watched(TinyWorker):
        def trace(self, prompts, shard_id, attempt, **settings):
            if prompts[0].metadata["number"] == 12:
                command = [sys.executable, "-m", "tracer.cli", "status", str(root), "--json"]
                told.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
            return super().trace(prompts, shard_id, attempt, **settings)

    trace(root, config, Watched)
    (status,) = told
    assert (status["state"], status["n_shards_done"], status["n_prompts_done"]) == ("running", 2, 12)


def test_failures_are_counted_by_class_and_a_stopped_run_says_so(root, tmp_path):
    config = begin_tiny_run(root, max_attempts=1)
    trace(root, config, faulty("raise", tmp_path / "fault", number=7, n_times=9))
    status = read_status(root)
    check_against_the_ledger(root, status)
    assert (status.state, status.n_shards_given_up, status.n_shards_left) == ("traced", 1, 0)
    assert (status.failures, status.n_failures) == ({"ValueError": 1}, 1)
    (path,) = (root / "quarantine").iterdir()
    path.unlink()
    assert (read_status(root).state, read_status(root).n_shards_left) == ("stopped", 1)


def test_failed_prompts_are_counted_by_the_class_in_their_parts(root):
    class Failing(TinyWorker):
        def trace(self, prompts, shard_id, attempt, **settings):
            tables = super().trace(prompts, shard_id, attempt, **settings)
            row = {
                "stage": "trace", "item_id": prompts[0].prompt_id, "shard_id": shard_id, "error_class": "DataError",
                "message": "no", "text": "x", "attempts": 1,
            }  # fmt: skip
            return tables | {"failures": type(tables["failures"]).from_pylist([row], tables["failures"].schema)}

    trace(root, begin_tiny_run(root), Failing)
    assert read_status(root).failures == {"DataError": 4}


def test_a_shard_tried_again_is_counted(root, tmp_path):
    trace(root, begin_tiny_run(root), faulty("raise", tmp_path / "fault", number=7))
    status = read_status(root)
    assert (status.n_retried, status.n_shards_done, status.n_failures) == (1, 4, 0)


def test_rate_utilisation_time_left_and_cost_are_worked_out_from_receipts(root):
    """Two processes; the first has 2 shards of 6 prompts in 4 of 6 seconds, the second one shard in 3 of 3."""
    config = begin_tiny_run(root, gpus_per_actor=0.5)
    ledger, shards, runner = Ledger(open_store(root)), record_of(root).shards, ShardRunner(root, config, TinyWorker)
    runner.start()
    for shard, pid, seconds, at in zip(shards, (1, 1, 2), (2.0, 2.0, 3.0), (3.0, 7.0, 6.0), strict=False):
        receipt = replace(runner.run_shard(Assignment(shard, 0)), pid=pid, seconds=seconds, host="here")
        ledger.commit(receipt, run_seconds=at)
    status = read_status(root, usd_per_hour=3.0)
    assert [(actor.pid, actor.busy_seconds, actor.held_seconds) for actor in status.actors] == [(1, 4, 6), (2, 3, 3)]
    assert [actor.utilisation for actor in status.actors] == [0.667, 1.0]
    assert status.prompts_per_second == 3.0  # 18 prompts from second 1 to 7
    assert status.seconds_left == 2.0
    assert (status.cost.unit, status.cost.hours) == ("GPU", pytest.approx(9 * 0.5 / 3600, abs=1e-6))
    assert status.cost.hours_expected == pytest.approx(status.cost.hours * 24 / 18, abs=2e-6)
    assert status.cost.usd == pytest.approx(3 * 9 * 0.5 / 3600, abs=1e-4)
    assert read_status(root).cost.usd is None


def test_the_rate_is_that_of_late(root):
    config = begin_tiny_run(root)
    ledger, runner = Ledger(open_store(root)), ShardRunner(root, config, TinyWorker)
    runner.start()
    for shard, at in zip(record_of(root).shards, (10.0, 1000.0, 1050.0, 1090.0), strict=True):
        ledger.commit(replace(runner.run_shard(Assignment(shard, 0)), seconds=1.0), run_seconds=at)
    assert read_status(root).prompts_per_second == pytest.approx(18 / 109, abs=1e-3)  # the last tenth: 109 s


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"no run\.json"):
        read_status(tmp_path)
