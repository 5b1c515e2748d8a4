"""Receipts count only when whole, with all their parts."""

from dataclasses import replace

import pytest

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, record_of
from tracer.errors import RunError
from tracer.run.backlog import Assignment
from tracer.run.ledger import Ledger, ShardError
from tracer.run.work import ShardRunner
from tracer.storage.store import open_store


@pytest.fixture
def run(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_prompts=12)
    runner = ShardRunner(root, config, TinyWorker)
    runner.start()
    return runner, Ledger(open_store(root)), record_of(root).shards


def test_a_committed_receipt_reads_back_equal_and_in_the_order_of_the_plan(run):
    runner, ledger, shards = run
    receipts = {shard.shard_id: runner.run_shard(Assignment(shard, 7)) for shard in reversed(shards)}
    for receipt in receipts.values():
        ledger.commit(receipt, run_seconds=1.5)
    assert ledger.committed(shards) == {name: replace(receipt, run_seconds=1.5) for name, receipt in receipts.items()}
    assert list(ledger.committed(shards)) == [shard.shard_id for shard in shards]
    assert ledger.latest() == (1.5, 7)


def test_a_shard_that_was_only_written_does_not_count(run):
    runner, ledger, shards = run
    runner.run_shard(Assignment(shards[0], 0))
    assert ledger.committed(shards) == {}


def test_a_damaged_receipt_or_a_lost_part_does_not_count(run):
    runner, ledger, shards = run
    receipts = [runner.run_shard(Assignment(shard, 0)) for shard in shards]
    for receipt in receipts:
        ledger.commit(receipt, run_seconds=0.5)
    damaged = ledger.store.root / "shards" / f"{shards[0].shard_id}.json"
    damaged.write_text(damaged.read_text()[:100])
    (ledger.store.root / receipts[1].parts["nodes"].path).unlink()
    assert ledger.committed(shards) == {}
    assert ledger.latest() == (0.5, 0)


def test_a_worker_whose_files_are_elsewhere_cannot_be_committed(run):
    runner, ledger, shards = run
    receipt = runner.run_shard(Assignment(shards[0], 0))
    (ledger.store.root / receipt.parts["edges"].path).unlink()
    with pytest.raises(RunError, match="one run folder that all machines share"):
        ledger.commit(receipt, run_seconds=0.0)


def test_a_commit_ends_the_quarantine_of_its_shard(run):
    runner, ledger, shards = run
    error = ShardError(shard_id=shards[0].shard_id, attempt=2, error_class="ValueError", message="no")
    ledger.quarantine(shards[0], error, n_attempts=3)
    (given_up,) = ledger.quarantined()
    assert (given_up["n_attempts"], given_up["message"], given_up["shard"]["n_prompts"]) == (3, "no", 6)
    ledger.commit(runner.run_shard(Assignment(shards[0], 3)), run_seconds=0.0)
    assert ledger.quarantined() == []


def test_a_kill_between_receipt_and_quarantine_leaves_no_false_failure(run):
    runner, ledger, shards = run
    error = ShardError(shard_id=shards[0].shard_id, attempt=2, error_class="ValueError", message="no")
    ledger.quarantine(shards[1], replace(error, shard_id=shards[1].shard_id), n_attempts=3)
    receipt = runner.run_shard(Assignment(shards[0], 3))
    ledger.commit(receipt, run_seconds=0.0)
    ledger.quarantine(shards[0], error, n_attempts=3)
    assert [given_up["shard_id"] for given_up in ledger.quarantined()] == [shards[1].shard_id]
    (ledger.store.root / receipt.parts["nodes"].path).unlink()
    assert len(ledger.quarantined()) == 2


def test_a_runner_that_does_not_see_the_run_folder_says_so(tmp_path, run):
    runner = ShardRunner(tmp_path / "elsewhere", begin_tiny_run(tmp_path / "other"), TinyWorker)
    with pytest.raises(RunError, match=r"no run\.json as seen from"):
        runner.start()
