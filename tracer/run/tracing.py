"""The trace stage: what happens to the workers goes to the driver, and what the driver decides is done."""

from collections.abc import Callable

from rich.console import Console

from tracer.run.folder import written
from tracer.run.ledger import Ledger, ShardError
from tracer.run.logs import error_fields, log_event
from tracer.run.progress import TraceProgress
from tracer.run.protocol.driver import Driver
from tracer.run.protocol.messages import Commit, GiveUp, Quarantine, Retried
from tracer.run.work import Workers


def trace_shards(
    driver: Driver,
    ledger: Ledger,
    workers: Workers,
    progress: TraceProgress,
    *,
    clock: Callable[[], float],
    console: Console,
) -> None:
    """Work until every shard of the driver is committed or in quarantine; `clock` tells the run's time so far, seconds.

    Raises:
        RunError: nothing works, there is no room for the workers, or the ledger cannot be written.
    """
    while not driver.is_done:
        for event in workers.events():
            for action in driver.handle(event):
                match action:
                    case Commit(receipt=receipt):
                        with written(ledger.store):
                            ledger.commit(receipt, run_seconds=clock())
                        progress.committed(receipt)
                    case Retried(error=error):
                        _report(error, console, then="trying again")
                        log_event("warning", "shard failed", **error_fields(error))
                    case Quarantine(shard=shard, error=error):
                        _report(error, console, then="given up, see quarantine/")
                        with written(ledger.store):
                            ledger.quarantine(shard, error, n_attempts=action.n_attempts)
                        progress.gave_up(shard.n_prompts)
                    case GiveUp(error=stop):
                        raise stop
                    case _:
                        workers.perform(action)


def _report(error: ShardError, console: Console, *, then: str) -> None:
    where = f"shard {error.shard_id}" + ("" if error.prompt_id is None else f", prompt {error.prompt_id}")
    console.print(
        f"{where}, attempt {error.attempt}: {error.error_class}: {error.message} ({then})",
        style="yellow",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
