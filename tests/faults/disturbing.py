"""What the cases of the fault matrix have in common: a run that goes on while something is done to it."""

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tracer.config import RunConfig
from tracer.run import pipeline
from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.run.pipeline import RunResult
from tracer.run.worker import TraceWorker
from tracer.tables.equality import compare_tables

DEADLINE_S = 240.0
N_PROMPTS, SHARD_SIZE = 48, 2


class SlowTraceWorker(TraceWorker):
    """The product's worker, slow enough for something to happen meanwhile."""

    def trace(self, *arguments, **named):
        """As `TraceWorker.trace`, a second later."""
        time.sleep(1.0)
        return super().trace(*arguments, **named)


def quiet() -> Console:
    """What a run says, kept in `file`."""
    return Console(file=io.StringIO(), width=300)


def undisturbed_tiny_run(root: Path) -> Path:
    """The results of a whole run of `N_PROMPTS` made-up prompts, in one process."""
    config = begin_tiny_run(root, n_prompts=N_PROMPTS, shard_size=SHARD_SIZE)
    return pipeline.run(config, root, inline=True, console=quiet(), make_worker=TinyWorker).database


def disturbed(
    config: RunConfig, root: Path, make_worker: Callable, disturb: Callable[[], None], *, after_n_shards: int
) -> RunResult:
    """A run on Ray in a thread, to which something is done in this one once so many shards are committed."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        run = threads.submit(pipeline.run, config, root, console=quiet(), make_worker=make_worker)
        wait_until(lambda: len(receipts(root)) >= after_n_shards, run)
        n_done = len(receipts(root))
        disturb()
        result = run.result(timeout=DEADLINE_S)
    assert n_done < len(receipts(root)), "it was done too late"
    return result


def n_retried(root: Path) -> int:
    """Committed shards that are not of a first attempt."""
    return sum(receipt["attempt"] % ATTEMPTS_PER_SESSION > 0 for receipt in receipts(root).values())


def wait_until(is_so: Callable[[], bool], run: Future) -> None:
    """Wait for something that comes about while a run goes on."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert not run.done(), f"the run ended early: {run.exception() or run.result()}"
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def receipts(root: Path) -> dict[str, dict]:
    """What is committed, by shard."""
    found = {}
    for path in (root / "shards").glob("[!.]*.json"):
        found[path.stem] = json.loads(path.read_text())
    return found


def check_whole(result: RunResult, undisturbed: Path, *, n_prompts: int = N_PROMPTS) -> None:
    """Nothing is lost, doubled or different."""
    assert (result.n_graphs, result.n_failures, result.n_shards_given_up) == (n_prompts, 0, 0)
    assert compare_tables(undisturbed, result.database) == []
