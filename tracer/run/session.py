"""One driver's hold on a folder of work with shards, be it a run or a harvest: what both have in common."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from tracer.errors import TracerError
from tracer.run.aggregating import MARKER
from tracer.run.backlog import ATTEMPTS_PER_SESSION, Backlog
from tracer.run.folder import RECORD_NAME, check_run_out, claimed, written
from tracer.run.inline import InlineWorkers
from tracer.run.ledger import Ledger, Watcher
from tracer.run.logs import LogWatcher, log_event, logged
from tracer.run.names import differing_names
from tracer.run.plan import Plan, at_recorded_commits, check_device, for_workers
from tracer.run.profiling import phases_line, sum_of_phases
from tracer.run.progress import TraceProgress
from tracer.run.protocol.driver import Driver
from tracer.run.record import RunRecord, check_facts, check_resumable, load_record, new_record
from tracer.run.tracing import trace_shards
from tracer.run.work import AnyConfig, ShardRunner, WorkerMaker, Workers
from tracer.storage.store import Store


class Session:
    """One driver's hold on a folder: record, ledger, workers, and a clock (`started` is a `time.monotonic`).

    `did_something` is set by whatever changes the folder.
    """

    def __init__(
        self,
        store: Store,
        record: RunRecord,
        number: int,
        *,
        started: float,
        inline: bool,
        make_worker: WorkerMaker,
        console: Console,
    ) -> None:
        self.store, self.record, self.console = store, record, console
        self.ledger = Ledger(store, record.shard_tables)
        seconds_before, latest_attempt = self.ledger.latest()
        # A lock file that somebody removed counts from the start again; no attempt may have the number of another.
        self.number = max(number, latest_attempt // ATTEMPTS_PER_SESSION + 1)
        self.ledger.watchers.append(LogWatcher(store))
        self._is_metered = inline  # Ray carries the metrics
        self._seconds_before = max(record.seconds, seconds_before)
        self._started, self.did_something = started, False
        self._progress: TraceProgress | None = None
        runner = record.config.runner
        self._runner_config = runner.model_copy(update={"n_actors": 1}) if inline else runner
        given, maker = for_workers(record.config, record.origins), at_recorded_commits(make_worker, record.origins)
        make_runner = partial(ShardRunner, store.reference, given, maker, record.shard_tables)
        self.workers = _workers(make_runner, record.config, inline=inline, on_start=self._worker_started)

    def seconds(self) -> float:
        """Time of all drivers of this run so far."""
        return self._seconds_before + time.monotonic() - self._started

    def trace(self) -> None:
        """Work on the shards without a receipt."""
        committed = self.ledger.committed(self.record.shards)
        left = [shard for shard in self.record.shards if shard.shard_id not in committed]
        if not left:
            return
        self.did_something = True
        self.store.remove(MARKER)  # what results.duckdb holds is less than will be committed
        backlog = Backlog(left, session=self.number, max_attempts=self._runner_config.max_attempts)
        self._progress = TraceProgress(
            self.console,
            n_shards=len(self.record.shards),
            n_prompts_left=sum(shard.n_prompts for shard in left),
            n_shards_done=len(committed),
            n_failures=len(self.record.corpus.failures) + sum(receipt.n_failures for receipt in committed.values()),
            unit=self.record.unit,
        )
        with self._progress as progress:
            trace_shards(
                Driver(backlog, self._runner_config, any_committed=bool(committed)),
                self.ledger,
                self.workers,
                progress,
                clock=self.seconds,
                console=self.console,
            )
        if self._runner_config.profile:
            phases = sum_of_phases(self.ledger.committed(self.record.shards).values())
            self.console.print(phases_line(phases), highlight=False, soft_wrap=True)

    def close(self) -> None:
        """End the workers and note the time, unless there was nothing to do."""
        self.workers.close()
        if not self.did_something:
            return
        self.record = replace(self.record, seconds=self.seconds())
        with written(self.store):
            self.record.save(self.store)

    def _worker_started(self, facts: dict) -> None:
        check_facts(self.record, facts)
        log_event("info", "worker started", device=facts["device"], pid=facts.get("pid"))
        if not self._is_metered:
            self._is_metered = True
            self.ledger.watchers.append(self._metrics())
        if self._progress is not None:
            self._progress.worker_started(facts)

    def _metrics(self) -> Watcher:
        from tracer.run.metrics import RunMetrics

        return RunMetrics(
            self.record.run_id,
            self.number,
            n_shards=len(self.record.shards),
            receipts=self.ledger.committed(self.record.shards).values(),
            given_up=[entry["shard_id"] for entry in self.ledger.quarantined()],
        )


AnySession = TypeVar("AnySession", bound=Session)


@contextmanager
def held(
    session_type: type[AnySession],
    config: AnyConfig,
    out: str | Path | None,
    *,
    planned: Callable[[AnyConfig, Store], Plan],
    inline: bool,
    console: Console,
    make_worker: Callable[..., Any],
) -> Iterator[AnySession]:
    """Hold a folder for the time of the block: a new one is planned, one that was begun is gone on with.

    Args:
        session_type: what is made of it.
        config: the settings.
        out: the folder, a path or URI; None takes `runner.out`.
        planned: makes the plan of new work.
        inline: whether shards are worked on in this process, without Ray.
        console: where progress is shown.
        make_worker: makes what turns prompts into rows, inside each worker process, as `session_type` calls it.

    Raises:
        TracerError: settings, corpus, model or folder cannot be used.
    """
    started = time.monotonic()
    reference = check_run_out(out or config.runner.out)

    def say(words: str) -> None:
        console.print(words, style="dim", markup=False, highlight=False, soft_wrap=True)

    with claimed(reference, lease_s=config.runner.lease_s, say=say) as (store, number):
        is_resumed = store.has([RECORD_NAME])
        record = _resumed(config, store) if is_resumed else _begun(config, store, console, planned, inline=inline)
        with logged(config.runner.log_file, record.run_id):
            session = session_type(
                store, record, number, started=started, inline=inline, make_worker=make_worker, console=console
            )
            try:
                yield session
            except BaseException:
                with suppress(TracerError):  # what went wrong first is what there is to tell
                    session.close()
                raise
            session.close()


def _begun(
    config: AnyConfig,
    store: Store,
    console: Console,
    planned: Callable[[AnyConfig, Store], Plan],
    *,
    inline: bool,
) -> RunRecord:
    check_device(config, inline=inline)
    console.print("reading the corpus", style="dim")
    record = new_record(store, config, planned(config, store))
    record.save(store)
    if differing_names(record.model_names):
        made_for, checkpoint = record.model_names["transcoders_made_for"], record.model_names["checkpoint"]
        message = f"the transcoders say that they were made for {made_for}, and the checkpoint is {checkpoint}"
        console.print(f"warning: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    corpus = record.corpus
    unusable = f", {len(corpus.failures)} rows unusable" if corpus.failures else ""
    repeated = f", {corpus.n_duplicates} repeated ones left out" if corpus.n_duplicates else ""
    console.print(
        f"{corpus.n_prompts} {record.unit} in {len(record.shards)} shards{unusable}{repeated}",
        style="dim",
        highlight=False,
    )
    return record


def _resumed(config: AnyConfig, store: Store) -> RunRecord:
    record = load_record(store)
    check_resumable(record, config, store)
    # settings outside the fingerprint (actors, device, memory) may change from driver to driver
    return replace(record, config=config)


def _workers(
    make_runner: Callable[[], ShardRunner], config: AnyConfig, *, inline: bool, on_start: Callable[[dict], None]
) -> Workers:
    if inline:
        return InlineWorkers(make_runner, on_start=on_start)
    from tracer.run.pool import ActorPool

    return ActorPool(make_runner, config.runner, on_start=on_start)
