"""One schedule: driver after driver over one storage, until one of them says that all is done; then the promises."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.simulator.actors import HANGS, POISON, RAISES, SPOILS, TIGHT, Actor, SimulatedWorkers
from tests.simulator.world import CALM_AT_S, DriverCrash, Violation, World
from tracer.config import RunnerConfig
from tracer.corpus.shards import Shard
from tracer.errors import RunError
from tracer.run.backlog import Backlog
from tracer.run.ledger import Ledger, Receipt, ShardError
from tracer.run.progress import TraceProgress
from tracer.run.protocol.driver import Driver
from tracer.run.tracing import trace_shards
from tracer.storage.store import open_store

MAX_ATTEMPTS = 3
MAX_CALM_SESSIONS = 4
HOPELESS = (POISON, HANGS, RAISES)
"""Fates of shards that no driver gets done."""


class SimulatedLedger(Ledger):
    """The ledger of one driver session over simulated storage; says no where the real one does."""

    def __init__(self, world: World) -> None:
        super().__init__(open_store(Path("/simulated")))
        self.world, self.storage = world, world.storage

    def has_parts(self, receipt: Receipt) -> bool:
        """Whether every part is there."""
        return all((name, receipt.shard_id, receipt.attempt) in self.storage.parts for name in receipt.parts)

    def commit(self, receipt: Receipt, *, run_seconds: float) -> None:
        """As `Ledger.commit`; slow at times, and the driver may die before or after it."""
        self.world.note(f"commit {receipt.shard_id}, attempt {receipt.attempt}")
        if not self.has_parts(receipt):
            raise RunError("storage", found="missing parts", expected="all of them", to_do="Run it again.")
        self._risk()
        if receipt.shard_id in self.storage.receipts:
            raise Violation(f"shard {receipt.shard_id} is committed twice")
        self.storage.receipts[receipt.shard_id] = {name: part.sha256 for name, part in receipt.parts.items()} | {
            "attempt": receipt.attempt
        }
        self._risk()
        self.storage.quarantine.pop(receipt.shard_id, None)

    def quarantine(self, shard: Shard, error: ShardError, *, n_attempts: int) -> None:
        """As `Ledger.quarantine`."""
        if shard.shard_id in self.storage.receipts:
            raise Violation(f"shard {shard.shard_id} is given up although it is committed")
        self._risk()
        self.world.note(f"shard {shard.shard_id} is given up")
        self.storage.quarantine[shard.shard_id] = n_attempts
        self._risk()

    def _risk(self) -> None:
        if self.world.fails(0.2):
            self.world.time += self.world.delay()
        if self.world.fails(0.2):
            raise DriverCrash


class Unseen(TraceProgress):
    """Shows nothing."""

    def __init__(self) -> None:
        pass

    def committed(self, receipt: Receipt) -> None:
        """Shown to nobody."""

    def gave_up(self, n_prompts: int) -> None:
        """Shown to nobody."""


class Mute(Console):
    """Prints nothing, fast."""

    def print(self, *_: object, **__: object) -> None:
        """Heard by nobody."""


MUTE = Mute()


@dataclass(frozen=True)
class Protocol:
    """The parts of which a driver session is made; a planted bug replaces one."""

    driver: type[Driver] = Driver
    backlog: type[Backlog] = Backlog
    actor: type[Actor] = Actor
    ledger: type[SimulatedLedger] = SimulatedLedger
    n_sessions_counted: int = 10**6
    """Sessions after which the number of a session repeats."""


def run_schedule(seed: int, protocol: Protocol = Protocol(), *, log: Callable[[str], None] | None = None) -> None:
    """Play the schedule of a seed.

    Raises:
        Violation: a promise was broken; says how to see the schedule.
    """
    world = World(seed, log=log)
    shards = [Shard(shard_id=f"s{idx}", file="f", start=idx, n_prompts=1) for idx in range(world.random.randint(1, 6))]
    kinds = [POISON, HANGS, RAISES, TIGHT, SPOILS]
    fates = {shard.shard_id: world.random.choice(kinds) for shard in shards[:2] if world.random.random() < 0.4}
    runner = RunnerConfig(
        n_actors=world.random.randint(1, 4),
        max_attempts=MAX_ATTEMPTS,
        hung_after_s=world.random.choice((100.0, 300.0, 3600.0)),  # the first of which some honest attempts exceed
    )
    try:
        n_calm = 0
        while not _drive(world, shards, fates, runner, protocol) or _may_still_do(world, shards, fates):
            n_calm += world.time >= CALM_AT_S
            if n_calm > MAX_CALM_SESSIONS:
                raise Violation("driver after driver ends without an end in sight")
        _check(world, shards, fates)
    except Violation as violation:
        raise Violation(f"{violation}; `python -m tests.simulator {seed}` shows schedule {seed}") from violation


def _drive(world: World, shards: list[Shard], fates: dict[str, str], runner: RunnerConfig, protocol: Protocol) -> bool:
    """One driver session; False where it was cut short."""
    storage, ledger = world.storage, protocol.ledger(world)
    number = storage.n_sessions % protocol.n_sessions_counted
    storage.n_sessions += 1
    left = [shard for shard in shards if shard.shard_id not in storage.receipts]
    world.note(f"driver {storage.n_sessions} begins with {len(left)} shards")
    backlog = protocol.backlog(left, session=number, max_attempts=runner.max_attempts)
    driver = protocol.driver(backlog, runner, any_committed=bool(storage.receipts))
    workers = SimulatedWorkers(world, fates, protocol.actor)
    try:
        trace_shards(driver, ledger, workers, Unseen(), clock=lambda: world.time, console=MUTE)
    except (DriverCrash, RunError) as error:
        world.note(f"driver {storage.n_sessions} ends: {error!r}")
        world.time += world.delay()
        return False
    finally:
        workers.close()
    lost = [shard.shard_id for shard in left if shard.shard_id not in {**storage.receipts, **storage.quarantine}]
    if lost:
        raise Violation(f"shard {lost[0]} is lost")
    return True


def _may_still_do(world: World, shards: list[Shard], fates: dict[str, str]) -> bool:
    """Whether chance alone set a shard aside: the next driver does it. Time goes by until it is calm."""
    undone = [shard.shard_id for shard in shards if shard.shard_id not in world.storage.receipts]
    if all(fates.get(shard_id) in HOPELESS for shard_id in undone):
        return False
    while world.step(CALM_AT_S):
        pass
    return True


def _check(world: World, shards: list[Shard], fates: dict[str, str]) -> None:
    """Every shard is committed whole or in quarantine, and stays so whatever zombies still write."""
    while world.step(world.time + 1e6):
        pass
    for shard in shards:
        shard_id, fate = shard.shard_id, fates.get(shard.shard_id)
        receipt, n_attempts = world.storage.receipts.get(shard_id), world.storage.quarantine.get(shard_id)
        if receipt is None:
            if n_attempts is None:
                raise Violation(f"shard {shard_id} is lost")
            if n_attempts < MAX_ATTEMPTS or fate not in HOPELESS:
                raise Violation(f"shard {shard_id} is given up after {n_attempts} attempts")
            continue
        attempt = receipt.pop("attempt")
        for name, writer in receipt.items():
            found = world.storage.parts.get((name, shard_id, attempt))
            if str(found) != writer:
                raise Violation(f"{name} of shard {shard_id} is of process {found}, the receipt says {writer}")
