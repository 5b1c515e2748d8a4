"""Seconds by phase: counted where asked for (`tests/test_cli_runs.py` shows that tables do not change)."""

import io
import time
from dataclasses import replace

import pytest
from rich.console import Console

from tracer.config import parse_config
from tracer.run import pipeline
from tracer.run.ledger import Ledger, Receipt
from tracer.run.profiling import PHASES, phase, phases_line, profiled, sum_of_phases
from tracer.run.record import load_record
from tracer.run.status import read_status
from tracer.storage.store import open_store

DEMO = "package:tracer.model.demo/files"
RECEIPT = Receipt(
    shard_id="s", attempt=0, parts={}, n_prompts=1, n_failures=0, seconds=10.0, host="h", device="cpu", versions={}
)


def trace(root, *, profile: bool) -> str:
    config = parse_config({
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": 6}},
        "runner": {"shard_size": 3, "profile": profile},
    })
    console = Console(file=io.StringIO(), width=200)
    pipeline.trace(config, root, inline=True, console=console)
    return console.file.getvalue()


def test_a_profiled_run_says_where_its_time_went(tmp_path):
    printed, folder = trace(tmp_path / "run", profile=True), open_store(tmp_path / "run")
    receipts = Ledger(folder).committed(load_record(folder).shards).values()
    assert len(receipts) == 2
    for receipt in receipts:
        assert set(receipt.phases) == set(PHASES)
        assert all(seconds > 0 for seconds in receipt.phases.values())
        assert sum(receipt.phases.values()) <= receipt.seconds + 0.001
    assert phases_line(sum_of_phases(receipts)) in printed
    assert read_status(folder.reference).phases == sum_of_phases(receipts)


def test_another_run_says_nothing_of_it(tmp_path):
    assert "profile" not in trace(tmp_path / "run", profile=False)
    assert read_status(tmp_path / "run").phases == {}


def test_phases_add_up_and_count_nothing_outside_a_profile():
    with profiled(True) as seconds:
        for _ in range(3):
            with phase("rows"):
                time.sleep(0.001)
        with pytest.raises(ZeroDivisionError), phase("prune"):
            _ = 1 / 0
    with phase("rows"):
        pass
    assert list(seconds) == ["rows"]
    assert seconds["rows"] >= 0.003
    with profiled(False) as none, phase("rows"):
        pass
    assert none == {}


def test_sums_leave_out_what_was_not_profiled_and_show_what_lies_between_phases():
    profiles = [replace(RECEIPT, phases={"rows": 6.0, "write": 1.0}), replace(RECEIPT, phases={"rows": 2.0}), RECEIPT]
    total = sum_of_phases(profiles)
    assert total == {"forward": 0.0, "encode": 0.0, "rows": 8.0, "prune": 0.0, "write": 1.0, "other": 11.0}
    assert phases_line(total).endswith("rows 8.0 (40%), prune 0.0 (0%), write 1.0 (5%), other 11.0 (55%)")
    assert sum_of_phases([RECEIPT]) == {}
