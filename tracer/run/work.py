"""What is done with one shard, in whatever process: read its prompts, trace them, write its parts, make a receipt."""

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from tracer.aggregate.tasks import Block, Result, Shared
from tracer.config.harvest import HarvestConfig
from tracer.config.run import RunConfig
from tracer.corpus.prompts import Prompt
from tracer.corpus.shards import read_shard
from tracer.errors import RunError
from tracer.run.backlog import Assignment
from tracer.run.folder import RECORD_NAME
from tracer.run.ledger import Receipt, ShardError
from tracer.run.profiling import phase, profiled
from tracer.run.protocol.messages import Event, WorkerAction
from tracer.run.versions import package_versions
from tracer.storage.store import Store, open_store
from tracer.tables.declare import Table
from tracer.tables.parts import Part, write_part
from tracer.tables.schema import SHARD_TABLES

SPOILS_THE_PROCESS = frozenset({"OutOfMemoryError", "AcceleratorError", "MemoryError"})
"""Errors after which an accelerator's context or the heap cannot be trusted."""


class SpoilingPromptError(Exception):
    """One prompt brought about an error of `SPOILS_THE_PROCESS`, which is the cause of this one."""

    def __init__(self, prompt_id: str) -> None:
        super().__init__(prompt_id)
        self.prompt_id = prompt_id


@runtime_checkable
class Worker(Protocol):
    """Turns prompts, or documents, into rows; holds the model. Those of the product are
    `tracer.run.worker.TraceWorker` and `tracer.run.harvest_worker.HarvestWorker`.
    """

    def trace(
        self,
        prompts: list[Prompt],
        shard_id: str,
        attempt: int,
        *,
        skipped: Sequence[ShardError] = (),
        n_halved: int = 0,
    ) -> dict[str, pa.Table]:
        """One table for each shard table; prompts of `skipped` are rows of `failures`, untried; `n_halved` as in
        `Assignment`.

        Raises:
            SpoilingPromptError: a prompt left this process unusable.
        """

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """Promoted and suppressed tokens of (layer, feature) pairs."""

    def facts(self) -> dict:
        """n_layers, model_hash, transcoders_hash, device."""


@runtime_checkable
class FeatureWorker(Protocol):
    """A worker that also makes tables of what the weights of features say."""

    def weights_table(self, name: str) -> pa.Table:
        """A table of a harvest that needs no corpus, for every feature."""


@runtime_checkable
class RememberingWorker(Protocol):
    """A worker that leaves out of a shard what earlier shards make needless."""

    def forget(self) -> None:
        """Forget the last shard, which came to nothing after `trace`, or in it."""


AnyConfig = RunConfig | HarvestConfig
WorkerMaker = Callable[[Any], Worker]
"""Takes the configuration of the work, for a worker's machine."""


@runtime_checkable
class Workers(Protocol):
    """Workers that do what a `Driver` says, and tell it what happens; none starts before it is needed.

    `n_blocks_at_once` is how many blocks `do_blocks` does at a time.
    """

    n_blocks_at_once: int

    def events(self) -> list[Event]:
        """What has happened since the last call; waits for a moment where nothing has. The first is a `Tick`."""

    def perform(self, action: WorkerAction) -> None:
        """Start, end or employ a worker; what comes of it is an event.

        Raises:
            RunError: the action says that the machines are too small.
        """

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`, by any one of them."""

    def weights_table(self, name: str) -> pa.Table:
        """As `FeatureWorker.weights_table`, by any one of them."""

    def do_blocks(
        self, function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block]
    ) -> Iterator[Result]:
        """As `tracer.aggregate.tasks.TaskMap`: work of this machine that needs no model.

        Raises:
            RunError: a process was lost again and again.
        """

    def close(self) -> None:
        """End them."""


def make_trace_worker(config: RunConfig) -> Worker:
    """The product's worker."""
    from transformers.utils.logging import disable_progress_bar

    from tracer.run.worker import TraceWorker

    disable_progress_bar()  # it would write over the run's own
    return TraceWorker(config)


class ShardRunner:
    """One worker with the run folder, by path or URI, that it writes parts into; lives in this process or in a Ray
    actor.
    """

    def __init__(
        self,
        reference: str | Path,
        config: AnyConfig,
        make_worker: WorkerMaker,
        tables: tuple[Table, ...] = SHARD_TABLES,
    ) -> None:
        self._reference, self._config, self._make_worker, self._tables = reference, config, make_worker, tables
        self._store: Store | None = None
        self._worker: Worker | None = None
        self._device = ""
        self._versions: dict[str, str] = {}

    def start(self) -> dict:
        """Load the model; gives the worker's facts.

        Raises:
            ModelError: the checkpoint or the transcoders cannot be used.
            RunError: the run folder is not visible from here.
        """
        self._store = open_store(self._reference)
        if not self._store.has([RECORD_NAME]):
            raise RunError(
                str(self._reference),
                found=f"no run.json as seen from {socket.gethostname()}",
                expected="one run folder that all machines share",
                to_do="Give --out on shared storage, or as a URI.",
            )
        self._worker = self._make_worker(self._config)
        facts = self._worker.facts()
        self._device, self._versions = facts["device"], package_versions()
        return facts

    def run_shard(self, assignment: Assignment) -> Receipt | ShardError:
        """One attempt at one shard; whatever goes wrong inside becomes a `ShardError`."""
        shard, attempt = assignment.shard, assignment.attempt
        assert self._worker is not None, "started before its first shard"
        assert self._store is not None
        started = time.monotonic()
        try:
            with profiled(self._config.runner.profile) as phases:
                with self._store.fetched([shard.file]) as root:
                    prompts = read_shard(root, shard)
                tables = self._worker.trace(
                    prompts, shard.shard_id, attempt, skipped=assignment.skipped, n_halved=assignment.n_halved
                )
                with phase("write"):
                    parts = _write(self._store, self._tables, tables, assignment)
        except Exception as error:  # noqa: BLE001  a shard must not end a run of a thousand
            if isinstance(self._worker, RememberingWorker):
                self._worker.forget()
            return _shard_error(assignment, error)
        return Receipt(
            shard_id=shard.shard_id,
            attempt=attempt,
            parts=parts,
            n_prompts=shard.n_prompts,
            n_failures=parts["failures"].n_rows,
            seconds=round(time.monotonic() - started, 3),
            host=socket.gethostname(),
            device=self._device,
            versions=self._versions,
            pid=os.getpid(),
            phases={name: round(seconds, 6) for name, seconds in phases.items()},
        )

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`."""
        assert self._worker is not None, "started before it is asked"
        return self._worker.feature_logits(features, n_tokens)

    def weights_table(self, name: str) -> pa.Table:
        """As `FeatureWorker.weights_table`."""
        assert isinstance(self._worker, FeatureWorker), "started, and a harvest's, before it is asked"
        return self._worker.weights_table(name)


def _write(
    store: Store, declared: Iterable[Table], tables: dict[str, pa.Table], assignment: Assignment
) -> dict[str, Part]:
    shard_id, attempt = assignment.shard.shard_id, assignment.attempt
    return {
        table.name: write_part(store, table, tables[table.name], shard_id=shard_id, attempt=attempt)
        for table in declared
    }


def _shard_error(assignment: Assignment, error: Exception) -> ShardError:
    prompt_id, cause = None, error
    if isinstance(error, SpoilingPromptError) and isinstance(error.__cause__, Exception):
        prompt_id, cause = error.prompt_id, error.__cause__
    return ShardError(
        shard_id=assignment.shard.shard_id,
        attempt=assignment.attempt,
        error_class=type(cause).__name__,
        message=str(cause),
        traceback="".join(traceback.format_exception(error)),
        needs_fresh_process=type(cause).__name__ in SPOILS_THE_PROCESS,
        prompt_id=prompt_id,
    )
