"""Workers on Ray: one actor per slot, each with a model of its own; the driver keeps the queue.

An actor has one shard at a time, so a death is charged to the shard that caused it. A dead or unreachable actor is
killed (unreachable may mean alive: it must not go on), replaced, and its shard goes back to the backlog. Ray's own
restarts and retries are off: they have no bound that suits a shard which always kills its worker.
"""

import os
from collections.abc import Callable, Iterator
from typing import cast

import pyarrow as pa
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError, RayTaskError

from tracer.config import RunnerConfig
from tracer.errors import RunError, TracerError
from tracer.run.backlog import Assignment, Backlog
from tracer.run.cluster import check_demand, connect
from tracer.run.ledger import Receipt, ShardError
from tracer.run.work import ShardRunner

POLL_S = 1.0
"""How long one wait for an actor lasts before Ctrl-C is heard."""


class RunnerActor:
    """The `ShardRunner` of one Ray process; making it does nothing, so that loading can fail like any other call."""

    def __init__(self, make_runner: Callable[[], ShardRunner]) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        self._runner = make_runner()

    def start(self) -> dict:
        """As `ShardRunner.start`, with the process id."""
        return {**self._runner.start(), "pid": os.getpid()}

    def run_shard(self, assignment: Assignment) -> Receipt | ShardError:
        """As `ShardRunner.run_shard`."""
        return self._runner.run_shard(assignment)

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `ShardRunner.feature_logits`."""
        return self._runner.feature_logits(features, n_tokens)


class ActorPool:
    """The `Workers` of a Ray cluster; `on_start` is told each actor's facts once it has loaded its model."""

    def __init__(
        self, make_runner: Callable[[], ShardRunner], runner: RunnerConfig, *, on_start: Callable[[dict], None]
    ) -> None:
        self._make_runner, self._config, self._on_start = make_runner, runner, on_start
        self._starting: dict[ray.ObjectRef, ActorHandle] = {}
        self._running: dict[ray.ObjectRef, tuple[ActorHandle, Assignment]] = {}
        self._idle: list[ActorHandle] = []
        self._n_load_failures = 0
        self._owns_ray: bool | None = None

    def outcomes(self, backlog: Backlog) -> Iterator[Receipt | ShardError]:
        """Shards as they finish, in any order."""
        self._open(min(self._config.n_actors, len(backlog)))
        while backlog or self._running:
            while backlog and self._idle:
                actor, assignment = self._idle.pop(), backlog.take()
                self._running[actor.run_shard.remote(assignment)] = (actor, assignment)
            ready, _ = ray.wait([*self._starting, *self._running], num_returns=1, timeout=POLL_S)
            for reference in ready:
                if reference in self._starting:
                    self._take_started(reference)
                else:
                    yield self._take_finished(reference)

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`, by the first actor that is there.

        Raises:
            RunError: every attempt failed.
        """
        self._open(1)
        for _ in range(self._config.max_attempts):
            while not self._idle:
                ready, _ = ray.wait([*self._starting], num_returns=1, timeout=POLL_S)
                for reference in ready:
                    self._take_started(reference)
            actor = self._idle.pop()
            try:
                rows: pa.Table = ray.get(actor.feature_logits.remote(features, n_tokens))
            except RayError as error:
                last_error = error
                self._replace(actor)
                continue
            self._idle.append(actor)
            return rows
        raise RunError(
            "promoted tokens",
            found=f"{self._config.max_attempts} failed attempts, the last with: {_short(last_error)}",
            expected="a worker that can compute them",
            to_do="Run the same command with --inline to see where it fails.",
        ) from last_error

    def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        for actor in [*self._starting.values(), *self._idle, *(actor for actor, _ in self._running.values())]:
            ray.kill(actor)
        self._starting, self._running, self._idle = {}, {}, []
        if self._owns_ray:
            ray.shutdown()
        self._owns_ray = None

    def _open(self, n_actors: int) -> None:
        if self._owns_ray is None:
            self._owns_ray = connect()
        n_missing = n_actors - len(self._starting) - len(self._running) - len(self._idle)
        if n_missing > 0:
            check_demand(self._config, n_actors)
        for _ in range(n_missing):
            self._spawn()

    def _spawn(self) -> None:
        actor_class = ray.remote(RunnerActor).options(
            num_cpus=self._config.cpus_per_actor,
            num_gpus=self._config.gpus_per_actor,
            max_restarts=0,
            max_task_retries=0,
        )
        actor = cast("ActorHandle", actor_class.remote(self._make_runner))
        self._starting[actor.start.remote()] = actor

    def _replace(self, actor: ActorHandle) -> None:
        ray.kill(actor)
        self._spawn()

    def _take_started(self, reference: ray.ObjectRef) -> None:
        actor = self._starting.pop(reference)
        try:
            facts = ray.get(reference)
        except RayError as error:
            ray.kill(actor)
            if isinstance(error, RayTaskError) and isinstance(error.cause, TracerError):
                raise error.cause from None
            self._count_load_failure(error)
            return
        self._idle.append(actor)
        self._on_start(facts)

    def _count_load_failure(self, error: RayError) -> None:
        """Start another actor; once the budget is spent, go on with those that came up, if any did."""
        self._n_load_failures += 1
        if self._n_load_failures < self._config.max_load_failures:
            self._spawn()
        elif not (self._starting or self._running or self._idle):
            raise RunError(
                "workers",
                found=f"{self._n_load_failures} failed starts, the last with: {_short(error)}",
                expected="a worker that loads the model",
                to_do="See whether memory suffices; run the same command with --inline to see where it fails.",
            ) from error

    def _take_finished(self, reference: ray.ObjectRef) -> Receipt | ShardError:
        actor, assignment = self._running.pop(reference)
        try:
            outcome = ray.get(reference)
        except RayError as error:
            self._replace(actor)
            return ShardError(
                shard_id=assignment.shard.shard_id,
                attempt=assignment.attempt,
                error_class=type(error).__name__,
                message=_short(error),
            )
        if isinstance(outcome, ShardError) and outcome.needs_fresh_process:
            self._replace(actor)
        else:
            self._idle.append(actor)
        return outcome


def _short(error: Exception) -> str:
    """Ray's messages run over many lines; the last ones say why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:1] + lines[-3:] if len(lines) > 4 else lines)
