"""Simulated workers: each writes its parts one by one, and may die, hang, run on unreachable, speak late or twice."""

from collections.abc import Callable

from tests.simulator.world import TABLE_NAMES, DriverCrash, World
from tracer.errors import RunError
from tracer.run.backlog import N_UNBLAMED, Assignment
from tracer.run.ledger import Receipt, ShardError
from tracer.run.protocol.messages import (
    Assign,
    Event,
    Fence,
    LoadFailed,
    ShardFailed,
    ShardTraced,
    Spawn,
    Tick,
    WorkerAction,
    WorkerLoads,
    WorkerLost,
    WorkerUp,
)
from tracer.tables.parts import Part

TICK_S = 20.0
POISON, HANGS, RAISES, TIGHT, SPOILS = "poison", "hangs", "raises", "tight", "spoils"
"""Shards that always kill their worker, that it never gets done with, that always fail, that need little memory at
once, that have a prompt which never fits.
"""


class Actor:
    """One process; `uid` tells it from all others of a schedule, `number` is what its driver calls it."""

    def __init__(self, world: World, workers: "SimulatedWorkers", uid: int, number: int) -> None:
        self.world, self.workers, self.uid, self.number = world, workers, uid, number
        self.is_alive, self.is_fenced, self.is_hung = True, False, False
        world.place(self.start, self.die)

    def start(self) -> None:
        """There is room: load the model, if that works."""
        self.workers.post(lambda now: WorkerLoads(self.number, now))
        if self.world.fails(0.3):
            self.hang("its load")
        elif self.world.fails():
            self.is_alive = False
            self.world.leave(self.die)
            self.workers.post(lambda now: LoadFailed(self.number, "made to fail", now))
        else:
            self.workers.post(lambda now: WorkerUp(self.number, now))

    def die(self) -> None:
        """End; the driver hears of it later."""
        if self.is_alive:
            self.is_alive = False
            self.world.note(f"actor {self.uid} dies")
            self.world.leave(self.die)
            self.workers.post(lambda now: WorkerLost(self.number, "ActorDiedError", "made to fail", now))

    def hang(self, at: str) -> None:
        """Live on, and do and say nothing more."""
        self.is_hung = True
        self.world.note(f"actor {self.uid} hangs at {at}")

    def take(self, assignment: Assignment) -> None:
        """Begin an attempt."""
        self.world.after(self.world.delay(), lambda: self.write(assignment, 0))

    def write(self, assignment: Assignment, n_written: int) -> None:
        """Write the next part, or say that all are written."""
        if not self.is_alive:
            return
        if self.workers.is_closed:
            self.world.note("zombie writes")
        if n_written == len(TABLE_NAMES):
            self.tell(assignment)
            return
        shard_id, attempt = assignment.shard.shard_id, assignment.attempt
        fate = self.workers.fates.get(shard_id)
        if self.world.fails(0.3):
            self.world.note(f"actor {self.uid} cannot be reached")
            self.workers.post(lambda now: WorkerLost(self.number, "ActorUnavailableError", "made to fail", now))
        if self.world.fails(0.5) or fate == POISON:
            self.die()
            return
        if self.world.fails(0.3) or fate == HANGS:
            self.hang(shard_id)
            return
        error = self.error_of(assignment, fate)
        if error is not None:
            self.workers.post(lambda now: ShardFailed(self.number, error, now))
            return
        self.world.storage.parts[TABLE_NAMES[n_written], shard_id, attempt] = self.uid
        self.world.after(self.world.delay(), lambda: self.write(assignment, n_written + 1))

    def tell(self, assignment: Assignment) -> None:
        """Hand in the receipt, which names the content of every part."""
        shard_id, attempt = assignment.shard.shard_id, assignment.attempt
        parts = {
            name: Part(table=name, path=f"{name}-{shard_id}-{attempt}", n_rows=1, sha256=str(self.uid))
            for name in TABLE_NAMES
        }
        receipt = Receipt(
            shard_id=shard_id, attempt=attempt, parts=parts, n_prompts=1, n_failures=0, seconds=1.0, host="h",
            device="cpu", versions={},
        )  # fmt: skip
        self.workers.post(lambda now: ShardTraced(self.number, receipt, now))
        if self.is_fenced:
            self.world.note("fenced speaks")

    def error_of(self, assignment: Assignment, fate: str | None) -> ShardError | None:
        """What goes wrong inside the process."""
        prompt_id, name = None, "MemoryError"
        if fate == TIGHT and assignment.n_halved < N_UNBLAMED:
            pass
        elif fate == SPOILS and not assignment.skipped:
            prompt_id = "p0" if assignment.n_halved >= N_UNBLAMED else None
        elif fate == RAISES or self.world.fails(0.3):
            name = "ValueError"
        else:
            return None
        return ShardError(
            shard_id=assignment.shard.shard_id,
            attempt=assignment.attempt,
            error_class=name,
            message="made to fail",
            needs_fresh_process=name == "MemoryError",
            prompt_id=prompt_id,
        )


class SimulatedWorkers:
    """The `Workers` of one driver session."""

    n_blocks_at_once = 1

    def __init__(self, world: World, fates: dict[str, str], actor_class: type[Actor]) -> None:
        self.world, self.fates, self.actor_class = world, fates, actor_class
        self.actors: dict[int, Actor] = {}
        self.is_closed = False
        self._inbox: list[Event] = []
        self._tick_at = world.time

    def post(self, make: Callable[[float], Event]) -> None:
        """Tell the driver, sooner or later, once or twice."""
        n_times = 2 if self.world.fails() else 1
        if n_times > 1:
            self.world.note("speaks twice")
        for _ in range(n_times):
            self.world.after(self.world.delay(), lambda: self._inbox.append(make(self.world.clock)))

    def events(self) -> list[Event]:
        """As `Workers.events`."""
        if self.world.fails(0.1):
            raise DriverCrash
        while not self._inbox and self.world.step(self._tick_at):
            pass
        if self._inbox:
            return [self._inbox.pop(0)]
        self._tick_at = self.world.time + TICK_S
        return [Tick(self.world.room, self.world.clock)]

    def perform(self, action: WorkerAction) -> None:
        """As `Workers.perform`."""
        self.world.note(repr(action))
        match action:
            case Spawn(worker=worker):
                uid = 1000 * self.world.storage.n_sessions + worker
                self.actors[worker] = self.actor_class(self.world, self, uid, worker)
            case Fence(worker=worker):
                self.actors[worker].is_fenced = True
                if self.actors[worker].is_hung:
                    self.world.note("the hung is fenced")
                self.world.after(self.world.delay(), self.actors[worker].die)
            case Assign(worker=worker, assignment=assignment):
                self.actors[worker].take(assignment)
            case _:
                raise RunError("cluster", found="too little room", expected="more", to_do="Run it again.")

    def feature_logits(self, features, n_tokens):
        """Not simulated."""
        raise NotImplementedError

    def weights_table(self, name):
        """Not simulated."""
        raise NotImplementedError

    def do_blocks(self, function, shared, blocks):
        """Not simulated."""
        raise NotImplementedError

    def close(self) -> None:
        """The driver is gone: its workers end sooner or later."""
        self.is_closed = True
        for actor in self.actors.values():
            self.world.after(self.world.random.uniform(0.1, 300), actor.die)
