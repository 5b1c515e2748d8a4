"""Workers on Ray: one actor per slot, each with a model of its own, under the orders of the driver.

An actor has one shard at a time, so a death is charged to the shard that caused it. A dead or unreachable actor is
killed (unreachable may mean alive: it must not go on). Ray's own restarts and retries are off: they have no bound that
suits a shard which always kills its worker. Actors that find no room yet wait in Ray, where a cluster that grows on
demand sees them, and start as soon as there is a machine for them.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain, islice
from typing import Literal, cast

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from tracer.aggregate.tasks import Block, Result, Shared, in_process
from tracer.config import RunnerConfig
from tracer.errors import RunError, StorageError, TracerError
from tracer.run.backlog import Assignment
from tracer.run.cluster import connect, demand_unmet, n_room, short_message
from tracer.run.ledger import Receipt, ShardError
from tracer.run.protocol.messages import (
    Assign,
    Event,
    Fence,
    LoadFailed,
    RefuseDemand,
    ShardFailed,
    ShardTraced,
    Spawn,
    Tick,
    WorkerAction,
    WorkerLoads,
    WorkerLost,
    WorkerUp,
)
from tracer.run.ray_tasks import ray_tasks
from tracer.run.work import ShardRunner

POLL_S = 1.0
"""How long one wait for an actor lasts before Ctrl-C is heard."""

LOOK_S = 5.0
"""How often the machines are counted while actors are at work."""

Call = Literal["arrive", "start", "run_shard"]
WorkerEvent = WorkerLoads | WorkerUp | LoadFailed | WorkerLost | ShardTraced | ShardFailed


class RunnerActor:
    """The `ShardRunner` of one Ray process; making it does nothing, so that loading can fail like any other call."""

    def __init__(self, make_runner: Callable[[], ShardRunner]) -> None:
        self._runner = make_runner()

    def arrive(self) -> None:
        """Answers as soon as this process is there, which may be long after it was asked for."""

    def start(self) -> dict:
        """As `ShardRunner.start`, with the process id."""
        return {**self._runner.start(), "pid": os.getpid()}

    def run_shard(self, assignment: Assignment) -> Receipt | ShardError:
        """As `ShardRunner.run_shard`."""
        return self._runner.run_shard(assignment)

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `ShardRunner.feature_logits`."""
        return self._runner.feature_logits(features, n_tokens)

    def weights_table(self, name: str) -> pa.Table:
        """As `ShardRunner.weights_table`."""
        return self._runner.weights_table(name)


class ActorPool:
    """The `Workers` of a Ray cluster; `on_start` is told each actor's facts once it has loaded its model."""

    def __init__(
        self, make_runner: Callable[[], ShardRunner], runner: RunnerConfig, *, on_start: Callable[[dict], None]
    ) -> None:
        self._make_runner, self._config, self._on_start = make_runner, runner, on_start
        self.n_blocks_at_once = os.cpu_count() or 1
        self._actors: dict[int, ActorHandle] = {}
        self._calls: dict[ray.ObjectRef, tuple[int, Call]] = {}
        self._looked_at = float("-inf")
        self._owns_ray: bool | None = None

    def events(self) -> list[Event]:
        """As `Workers.events`; now and then a `Tick`, which counts the machines, behind all that was ready before."""
        self._open()
        is_time = time.monotonic() - self._looked_at >= LOOK_S
        n_most, timeout_s = (len(self._calls), 0.0) if is_time else (1, POLL_S)
        events: list[Event] = [
            _heard(*self._calls.pop(call), call, self._on_start) for call in _ended(self._calls, n_most, timeout_s)
        ]
        if is_time or not events:
            self._looked_at = time.monotonic()
            events.append(Tick(n_room(self._config), now=self._looked_at, can_grow=not self._owns_ray))
        return events

    def perform(self, action: WorkerAction) -> None:
        """As `Workers.perform`.

        Raises:
            RunError: the machines are too small; names what is missing.
        """
        match action:
            case Spawn(worker=worker):
                actor = self._actors[worker] = _new_actor(self._make_runner, self._config)
                self._calls[actor.arrive.remote()] = worker, "arrive"
                self._calls[actor.start.remote()] = worker, "start"
            case Fence(worker=worker):
                ray.kill(self._actors.pop(worker))
                self._calls = {call: called for call, called in self._calls.items() if called[0] != worker}
            case Assign(worker=worker, assignment=assignment):
                self._calls[self._actors[worker].run_shard.remote(assignment)] = worker, "run_shard"
            case RefuseDemand(n_workers=n_workers):
                raise demand_unmet(self._config, n_workers)

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`, by an actor that is idle, or else by a new one.

        Raises:
            RunError: every attempt failed.
        """
        return self._asked("promoted tokens", lambda actor: actor.feature_logits.remote(features, n_tokens))

    def weights_table(self, name: str) -> pa.Table:
        """As `FeatureWorker.weights_table`; by whom, and errors, as `feature_logits`."""
        return self._asked(name, lambda actor: actor.weights_table.remote(name))

    def _asked(self, what: str, ask: Callable[[ActorHandle], ray.ObjectRef]) -> pa.Table:
        self._open()
        for extra in range(self._config.max_attempts):
            idle = self._actors.keys() - {worker for worker, _ in self._calls.values()}
            up = WorkerUp(min(idle), now=time.monotonic()) if idle else self._next_start(-1 - extra)
            if isinstance(up, WorkerUp):
                try:
                    rows: pa.Table = ray.get(ask(self._actors[up.worker]), timeout=self._config.hung_after_s)
                except RayError as error:
                    message = short_message(error)
                else:
                    return rows
            else:
                message = up.message
            self.perform(Fence(up.worker))
        raise RunError(
            what,
            found=f"{self._config.max_attempts} failed attempts, the last with: {message}",
            expected="a worker that can compute them",
            to_do="Run the same command with --inline to see where it fails.",
        )

    def do_blocks(
        self, function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block]
    ) -> Iterator[Result]:
        """As `Workers.do_blocks`: one block is done here, more of them by Ray tasks."""
        coming = iter(blocks)
        first = list(islice(coming, 2))
        if len(first) < 2:
            return in_process(function, shared, first)
        self._open()
        return ray_tasks(function, shared, chain(first, coming), self.n_blocks_at_once)

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        for worker in list(self._actors):
            self.perform(Fence(worker))
        if self._owns_ray:
            ray.shutdown()
        self._owns_ray = None

    def _open(self) -> None:
        if self._owns_ray is None:
            self._owns_ray = connect()

    def _next_start(self, new_worker: int) -> WorkerUp | LoadFailed:
        """What becomes of an actor that is starting; where there is none, `new_worker` is started."""
        if not self._calls:
            self.perform(Spawn(new_worker))
        arriving = {worker for worker, call in self._calls.values() if call == "arrive"}
        loads_since = {worker: time.monotonic() for worker, _ in self._calls.values() if worker not in arriving}
        while True:
            if n_room(self._config) == 0:
                raise demand_unmet(self._config, 1)
            for call in _ended(self._calls, 1, POLL_S):
                event = _heard(*self._calls.pop(call), call, self._on_start)
                if isinstance(event, WorkerUp | LoadFailed):
                    return event
                loads_since[event.worker] = event.now
            for worker, since in loads_since.items():
                seconds = time.monotonic() - since
                if seconds >= self._config.hung_after_s:
                    return LoadFailed(worker, f"still loading after {seconds:.0f} s", now=time.monotonic())


def _ended(calls: Collection[ray.ObjectRef], n_most: int, timeout_s: float) -> list[ray.ObjectRef]:
    """Calls that have ended, the oldest first."""
    return ray.wait([*calls], num_returns=n_most, timeout=timeout_s)[0] if calls else []


def _heard(worker: int, what: Call, call: ray.ObjectRef, on_start: Callable[[dict], None]) -> WorkerEvent:
    """What a call that has ended says of its worker."""
    if what == "arrive":  # where this failed, so does the start
        return WorkerLoads(worker, now=time.monotonic())
    if what == "run_shard":
        return _finished(worker, call)
    try:
        facts = ray.get(call)
    except RayError as error:
        cause = error.cause if isinstance(error, RayTaskError) else None
        if isinstance(cause, TracerError) and not isinstance(cause, StorageError):
            raise cause from None
        return LoadFailed(worker, short_message(error), now=time.monotonic())
    on_start(facts)
    return WorkerUp(worker, now=time.monotonic())


def _finished(worker: int, call: ray.ObjectRef) -> ShardTraced | ShardFailed | WorkerLost:
    try:
        outcome: Receipt | ShardError = ray.get(call)
    except RayError as error:
        out_of_memory = isinstance(error, OutOfMemoryError)
        return WorkerLost(worker, type(error).__name__, short_message(error), time.monotonic(), out_of_memory)
    if isinstance(outcome, ShardError):
        return ShardFailed(worker, outcome, now=time.monotonic())
    return ShardTraced(worker, outcome, now=time.monotonic())


def _new_actor(make_runner: Callable[[], ShardRunner], runner: RunnerConfig) -> ActorHandle:
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
    environment = {"TOKENIZERS_PARALLELISM": "false"} | dict.fromkeys(threads, str(runner.n_threads))
    actor_class = ray.remote(RunnerActor).options(
        num_cpus=runner.cpus_per_actor,
        num_gpus=runner.gpus_per_actor,
        resources=dict(runner.resources_per_actor),
        scheduling_strategy="SPREAD",  # else Ray fills half of one machine before it looks at the next
        max_restarts=0,
        max_task_retries=0,
        runtime_env={"env_vars": environment},  # read when numeric libraries are loaded, so before this code runs
    )
    return cast("ActorHandle", actor_class.remote(make_runner))
