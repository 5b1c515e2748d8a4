"""The trace stage: every shard without a receipt goes through the workers, and the driver commits."""

from collections.abc import Callable, Mapping

from rich.console import Console

from tracer.corpus.shards import Shard
from tracer.errors import RunError
from tracer.run.backlog import Backlog
from tracer.run.ledger import Ledger, Receipt, ShardError
from tracer.run.progress import TraceProgress
from tracer.run.work import Workers

HOPELESS_AFTER = 3
"""Shards given up, with none ever committed, after which a run stops instead of failing shard by shard."""


def trace_shards(
    shards: Mapping[str, Shard],
    backlog: Backlog,
    ledger: Ledger,
    workers: Workers,
    progress: TraceProgress,
    *,
    any_committed: bool,
    clock: Callable[[], float],
    console: Console,
) -> None:
    """Work through the backlog, which holds `shards` (by id); those that fail too often end in quarantine.

    `any_committed` says whether an earlier driver committed something; `clock` tells the run's time so far, seconds.

    Raises:
        RunError: nothing works (see `HOPELESS_AFTER`), or the workers cannot be started.
    """
    n_given_up = 0
    for outcome in workers.outcomes(backlog):
        if isinstance(outcome, Receipt):
            ledger.commit(outcome, run_seconds=clock())
            progress.committed(outcome)
            any_committed = True
            continue
        shard = shards[outcome.shard_id]
        again = backlog.give_back(shard, outcome)
        _report(outcome, console, again=again)
        if again:
            continue
        ledger.quarantine(shard, outcome, n_attempts=backlog.n_tried(shard))
        progress.gave_up(shard.n_prompts)
        n_given_up += 1
        if not any_committed and n_given_up >= HOPELESS_AFTER:
            raise RunError(
                "trace",
                found=f"the first {n_given_up} shards failed {backlog.n_tried(shard)} times each, the last with "
                f"{outcome.error_class}: {outcome.message}",
                expected="shards that can be traced",
                to_do=f"See {ledger.folder.quarantine}; then run the same command again.",
            )


def _report(error: ShardError, console: Console, *, again: bool) -> None:
    then = "trying again" if again else "given up, see quarantine/"
    where = f"shard {error.shard_id}" + ("" if error.prompt_id is None else f", prompt {error.prompt_id}")
    console.print(
        f"{where}, attempt {error.attempt}: {error.error_class}: {error.message} ({then})",
        style="yellow",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
