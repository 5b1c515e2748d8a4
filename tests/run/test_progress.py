"""The plain form of the progress line."""

import io

from rich.console import Console

from tracer.run.ledger import Receipt
from tracer.run.progress import TraceProgress


def test_without_a_terminal_the_last_line_holds_shards_rate_and_failures():
    console = Console(file=io.StringIO(), width=120)
    receipt = Receipt(
        shard_id="a", attempt=0, parts={}, n_prompts=10, n_failures=2, seconds=1.0, host="h", device="cpu", versions={}
    )
    with TraceProgress(console, n_shards=4, n_prompts_left=30, n_shards_done=1, n_failures=1) as progress:
        progress.worker_started({"device": "cpu", "pid": 7})
        progress.committed(receipt)
        progress.gave_up(10)
    first, last = console.file.getvalue().splitlines()
    assert first == "worker 1 ready on cpu, process 7"
    assert last.startswith("shards 2/4, ")
    assert "prompts/s" in last
    assert last.endswith("left, failures 4")


def test_in_a_terminal_the_line_is_live():
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with TraceProgress(console, n_shards=4, n_prompts_left=30, n_shards_done=0, n_failures=0):
        pass
    assert "shards 0/4, starting workers, failures 0" in console.file.getvalue()


def test_what_is_wrong_with_the_transcoders_is_said_once() -> None:
    console = Console(record=True, width=100)
    progress = TraceProgress(console, n_shards=2, n_prompts_left=4, n_shards_done=0, n_failures=0)
    for _ in range(2):
        progress.worker_started({"device": "cpu", "complaint": "layer 1 is worse than its mean"})
    assert console.export_text().count("worse than its mean") == 1
