"""The stages of a run in their order; each resumes from what lies in the run folder and can be called alone."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tracer.aggregate.metadata import MetadataColumns
from tracer.config import RunConfig
from tracer.run.aggregating import (
    STATE_NAME,
    build_results,
    committed_parts,
    inputs_hash,
    is_current,
    mark_current,
)
from tracer.run.folder import DATABASE_NAME, existing, local_database, written
from tracer.run.labelling import label
from tracer.run.plan import plan
from tracer.run.progress import telling
from tracer.run.record import aggregated_as, load_record
from tracer.run.session import Session, held
from tracer.run.work import WorkerMaker, make_trace_worker
from tracer.views.summary import PAGE_NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run left in the folder `root`, a path or URI: `n_graphs` 0 means that no prompt was usable. `database` is
    results.duckdb as a local file, fetched where need be; None where there is none yet.
    """

    root: str
    database: Path | None
    n_prompts: int
    n_traced: int
    n_graphs: int
    n_failures: int
    n_shards_given_up: int


class RunSession(Session):
    """One driver's hold on a run folder."""

    def aggregate(self) -> None:
        """Make results.duckdb with its labels and its page, unless it stands for exactly these inputs already."""
        parts = committed_parts(self.record, self.ledger)
        hash_of_inputs = inputs_hash(self.record, parts)
        if is_current(self.store, hash_of_inputs):
            return
        self.did_something = True
        self.console.print("aggregating", style="dim")
        with (
            written(self.store),
            self.store.working(DATABASE_NAME, STATE_NAME, PAGE_NAME, copy=True) as root,
            telling(self.console, "aggregating") as say,
        ):
            build_results(self.record, self.store, parts, self.workers, seconds=self.seconds(), folder=root, say=say)
            label(root / DATABASE_NAME, self.console, self.store)
        mark_current(self.store, hash_of_inputs)

    def change_aggregation(self, config: RunConfig) -> None:
        """Aggregate with the `aggregate` settings of another configuration from now on.

        Raises:
            RunError: it differs in anything else.
            ConfigError: `aggregate.by` or `aggregate.stratify_by` names no column of the corpus.
        """
        changed = aggregated_as(self.record, config, self.store)
        MetadataColumns.of(config.aggregate, changed.corpus.metadata_columns)
        with written(self.store):
            changed.save(self.store)
        self.record = changed

    def result(self, *, with_database: bool = True) -> RunResult:
        """Counts over everything that is committed by now."""
        receipts = self.ledger.committed(self.record.shards).values()
        n_given_up = len(self.ledger.quarantined())
        return RunResult(
            root=self.store.reference,
            database=local_database(self.store) if with_database else None,
            n_prompts=self.record.corpus.n_prompts,
            n_traced=sum(receipt.n_prompts for receipt in receipts),
            n_graphs=sum(receipt.n_graphs for receipt in receipts),
            n_failures=len(self.record.corpus.failures) + sum(receipt.n_failures for receipt in receipts) + n_given_up,
            n_shards_given_up=n_given_up,
        )


def run(
    config: RunConfig,
    out: str | Path | None,
    *,
    inline: bool = False,
    console: Console,
    make_worker: WorkerMaker = make_trace_worker,
) -> RunResult:
    """Everything from prompts to page; goes on where an earlier driver stopped, and does nothing twice.

    Args:
        config: the settings.
        out: the run folder, a path or URI; None takes `runner.out`.
        inline: trace in this process, without Ray.
        console: where progress is shown.
        make_worker: makes what turns prompts into rows, inside each worker process.

    Raises:
        TracerError: settings, corpus, model or run folder cannot be used. A prompt that fails is a row of `failures`.
    """
    with _held(config, out, inline=inline, console=console, make_worker=make_worker) as session:
        session.trace()
        session.aggregate()
        return session.result()


def trace(
    config: RunConfig,
    out: str | Path | None,
    *,
    inline: bool = False,
    console: Console,
    make_worker: WorkerMaker = make_trace_worker,
) -> RunResult:
    """The first stage alone: prompts to committed parts. Arguments and errors as `run`."""
    with _held(config, out, inline=inline, console=console, make_worker=make_worker) as session:
        session.trace()
        return session.result(with_database=False)


def aggregate_run(
    root: str | Path,
    *,
    config: RunConfig | None = None,
    inline: bool = False,
    console: Console,
    make_worker: WorkerMaker = make_trace_worker,
) -> RunResult:
    """The second stage alone: whatever shards are committed by now, to results.duckdb with labels and page.

    Args:
        root: the run folder, a path or URI.
        config: the run's configuration with other settings of `aggregate`, which count from now on.
        inline: work in this process, without Ray.
        console: where progress is shown.
        make_worker: as for `run`.

    Raises:
        ArtifactError: `root` is no run folder, or a committed part is damaged.
        RunError: `config` differs from the run's in anything but `aggregate`.
    """
    store = existing(root)
    began = load_record(store).run_config
    with _held(began, store.reference, inline=inline, console=console, make_worker=make_worker) as session:
        if config is not None:
            session.change_aggregation(config)
        session.aggregate()
        return session.result()


def _held(
    config: RunConfig, out: str | Path | None, *, inline: bool, console: Console, make_worker: WorkerMaker
) -> AbstractContextManager[RunSession]:
    return held(RunSession, config, out, planned=plan, inline=inline, console=console, make_worker=make_worker)
