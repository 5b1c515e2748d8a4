"""The driver's decisions: which worker does what, which receipt counts, when to try again and when to stop.

A shard is committed once, from a worker that is believed to be alive and for the attempt that it was given. Whatever
comes late, twice, or from a worker that was fenced changes nothing. Every event is answered at once with what follows.
"""

from tracer.config import RunnerConfig
from tracer.corpus.shards import Shard
from tracer.errors import RunError
from tracer.run.backlog import Backlog
from tracer.run.ledger import ShardError
from tracer.run.protocol.clock import WatchedTime
from tracer.run.protocol.crew import Crew
from tracer.run.protocol.hanging import hung
from tracer.run.protocol.messages import (
    Action,
    Assign,
    Commit,
    Event,
    Fence,
    GiveUp,
    LoadFailed,
    Quarantine,
    RefuseDemand,
    Retried,
    ShardFailed,
    ShardTraced,
    Spawn,
    Tick,
    WorkerLoads,
    WorkerLost,
    WorkerUp,
)
from tracer.run.protocol.stragglers import Stragglers

HOPELESS_AFTER = 3
"""Shards given up, with none ever committed, after which a run stops instead of failing shard by shard."""


class Driver:
    """One driver session over a backlog; `any_committed` says whether an earlier one committed something."""

    def __init__(self, backlog: Backlog, runner: RunnerConfig, *, any_committed: bool) -> None:
        self._backlog, self._runner, self._any_committed = backlog, runner, any_committed
        self._crew, self._stragglers = Crew(), Stragglers()
        self._n_most = runner.n_actors
        self._n_load_failures = self._n_given_up = 0
        self._time = WatchedTime()
        self._unmet_since: float | None = None

    @property
    def is_done(self) -> bool:
        """Whether every shard is committed or in quarantine."""
        return not self._backlog and not self._crew.at_work

    def handle(self, event: Event) -> list[Action]:
        """What follows from an event, to be done in this order."""
        self._time.look(event.now)
        actions: list[Action] = []
        match event:
            case Tick():
                actions = self._check_room(event)
                after_s, seconds = self._runner.hung_after_s, self._time.seconds
                for loss in hung(self._crew, self._stragglers, after_s=after_s, seconds=seconds, now=event.now):
                    actions += self.handle(loss)
            case WorkerLoads():
                self._crew.loads(event.worker, self._time.seconds)
            case WorkerUp():
                if self._crew.came_up(event.worker):
                    self._n_most, self._n_load_failures = self._runner.n_actors, 0
            case LoadFailed():
                actions = self._count_load_failure(event)
            case WorkerLost():
                actions = self._replace(event)
            case ShardTraced():
                actions = self._take_receipt(event)
            case ShardFailed():
                actions = self._take_error(event)
        return [*actions, *self._next_steps()]

    def _next_steps(self) -> list[Action]:
        """Work for those who are idle, and workers for the work that is left; those that find no room yet wait."""
        actions: list[Action] = []
        while self._backlog and self._crew.n_idle:
            assignment = self._backlog.take()
            actions.append(Assign(self._crew.give(assignment, self._time.seconds), assignment))
        actions += self._reissue()
        n_wanted = min(self._n_most, self._n_unfinished) - len(self._crew)
        return [*actions, *(Spawn(self._crew.hire()) for _ in range(n_wanted))]

    def _reissue(self) -> list[Action]:
        """A second attempt at stragglers while others have nothing to do; the first receipt wins."""
        actions: list[Action] = []
        for held, since in self._crew.at_work if self._crew.n_idle else []:
            alone = len(self._crew.workers_on(held.shard)) == 1
            if self._crew.n_idle and alone and self._stragglers.is_one(held, self._time.seconds - since):
                assignment = self._backlog.reissue(held.shard)
                if assignment is not None:
                    actions.append(Assign(self._crew.give(assignment, self._time.seconds), assignment))
        return actions

    def _check_room(self, tick: Tick) -> list[Action]:
        n_needed = min(self._runner.min_actors, self._runner.n_actors, self._n_unfinished)
        if tick.n_room >= n_needed:
            self._unmet_since = None
            return []
        if self._unmet_since is None:
            self._unmet_since = self._time.seconds
        waited = self._time.seconds - self._unmet_since
        return [] if tick.can_grow and waited < self._runner.node_wait_s else [RefuseDemand(n_needed)]

    def _count_load_failure(self, event: LoadFailed) -> list[Action]:
        """Once the budget is spent, go on with the workers that there are, until one more of them comes up."""
        if event.worker not in self._crew:
            return []
        self._crew.remove(event.worker)
        self._n_load_failures += 1
        if self._n_load_failures >= self._runner.max_load_failures:
            self._n_most = len(self._crew)
        if self._n_most > 0:
            return [Fence(event.worker)]
        error = RunError(
            "workers",
            found=f"{self._n_load_failures} failed starts, the last with: {event.message}",
            expected="a worker that loads the model",
            to_do="See whether memory suffices; run the same command with --inline to see where it fails.",
        )
        return [Fence(event.worker), GiveUp(error)]

    def _replace(self, event: WorkerLost) -> list[Action]:
        if event.worker not in self._crew:
            return []
        held = self._crew.remove(event.worker)
        if held is None:
            return [Fence(event.worker)]
        error = ShardError(
            shard_id=held.shard.shard_id,
            attempt=held.attempt,
            error_class=event.error_class,
            message=event.message,
            needs_fresh_process=event.out_of_memory,
        )
        return [Fence(event.worker), *self._give_back(held.shard, error)]

    def _take_receipt(self, event: ShardTraced) -> list[Action]:
        receipt = event.receipt
        if not self._crew.holds(event.worker, receipt.shard_id, receipt.attempt):
            return []
        held, since = self._crew.finish(event.worker)
        self._stragglers.finished(held, self._time.seconds - since)
        self._any_committed = True
        others = self._crew.workers_on(held.shard)
        for worker in others:
            self._crew.remove(worker)
        return [Commit(receipt), *(Fence(worker) for worker in others)]

    def _take_error(self, event: ShardFailed) -> list[Action]:
        error = event.error
        if not self._crew.holds(event.worker, error.shard_id, error.attempt):
            return []
        shard = self._crew.finish(event.worker)[0].shard
        if not error.needs_fresh_process:
            return self._give_back(shard, error)
        self._crew.remove(event.worker)
        return [Fence(event.worker), *self._give_back(shard, error)]

    def _give_back(self, shard: Shard, error: ShardError) -> list[Action]:
        if self._crew.workers_on(shard) or self._backlog.give_back(shard, error):
            return [Retried(error)]
        self._n_given_up += 1
        n_attempts = self._backlog.n_tried(shard)
        actions: list[Action] = [Quarantine(shard, error, n_attempts)]
        if not self._any_committed and self._n_given_up >= HOPELESS_AFTER:
            found = (
                f"the first {self._n_given_up} shards failed {n_attempts} times each, the last with "
                f"{error.error_class}: {error.message}"
            )
            to_do = "See quarantine/ in the run folder; then run the same command again."
            actions.append(GiveUp(RunError("trace", found=found, expected="shards that can be traced", to_do=to_do)))
        return actions

    @property
    def _n_unfinished(self) -> int:
        return len(self._backlog) + len({held.shard.shard_id for held, _ in self._crew.at_work})
