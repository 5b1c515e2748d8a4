"""Drivers that overlap, as a seeded schedule: real ledgers and leases over one object store that lies in memory.

At every request that a driver makes, chance may put it to sleep while others go on, for longer than its lease: they
take over, commit, are put to sleep in their turn; then its request is done after all. Clocks of drivers have nothing
in common, and answers get lost.

    python -m tests.storage.takeovers SEED
"""

import random
import sys
from dataclasses import dataclass, field
from unittest.mock import patch

from tracer.corpus.shards import Shard
from tracer.errors import RunError
from tracer.run.backlog import ATTEMPTS_PER_SESSION
from tracer.run.folder import receipt_name
from tracer.run.ledger import Ledger, Receipt
from tracer.storage import object_store
from tracer.storage.object_store import ObjectStore
from tracer.tables.parts import Part
from tracer.tables.schema import SHARD_TABLES

LEASE_S = 60.0
N_DRIVERS, N_SHARDS, N_STEPS = 3, 4, 12
SHARDS = tuple(
    Shard(shard_id=f"{number:016x}", file="corpus/a", start=number, n_prompts=1) for number in range(N_SHARDS)
)


class Violation(AssertionError):
    """A promise that was broken."""


@dataclass
class World:
    """What lies in the store, and who is in the middle of something."""

    chance: random.Random
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    n_versions: int = 0
    drivers: list["OneDriver"] = field(default_factory=list)
    occupied: set[int] = field(default_factory=set)
    sessions: list[int] = field(default_factory=list)
    is_calm: bool = False

    def meanwhile(self, asking: int) -> None:
        """Whatever happens between a driver's request and its being done."""
        if self.is_calm or self.chance.random() > 0.05:
            return
        for _ in range(self.chance.randrange(1, 8)):
            free = [driver for driver in self.drivers if driver.number not in self.occupied]
            if free:
                self.chance.choice(free).step()
        self.drivers[asking].now += self.chance.choice((0.0, LEASE_S / 3, 10 * LEASE_S))


class Shared:
    """As `Objects`, for one driver of a world."""

    def __init__(self, world: World, number: int) -> None:
        self._world, self._number = world, number

    def read(self, name):
        self._world.meanwhile(self._number)
        return self._world.objects.get(name)

    def version(self, name):
        found = self.read(name)
        return None if found is None else found[1]

    def create(self, name, content):
        return self._write(name, content, None)

    def replace(self, name, content, version):
        return self._write(name, content, version)

    def upload(self, name, file):
        found = self._world.objects.get(name)
        self._write(name, file.read(), None if found is None else found[1])

    def remove(self, name):
        self._world.meanwhile(self._number)
        if name.startswith("shards/"):
            raise Violation(f"{name} removed, and it was whole")
        self._world.objects.pop(name, None)

    def list(self, folder):
        self._world.meanwhile(self._number)
        names = (name for name in self._world.objects if name.startswith(f"{folder}/"))
        return {name: len(self._world.objects[name][0]) for name in names}

    def _write(self, name, content, expected):
        world = self._world
        world.meanwhile(self._number)
        found = world.objects.get(name)
        if (None if found is None else found[1]) != expected:
            return None
        if found is not None and name.startswith("shards/"):
            raise Violation(f"{name} replaced")
        world.n_versions += 1
        world.objects[name] = (content, f"v{world.n_versions}")
        is_lost = not world.is_calm and world.chance.random() < 0.05
        return None if is_lost else world.objects[name][1]


class OneDriver:
    """Takes the lease, commits shards, lets go; dies at times, and starts again."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.now = world, number, world.chance.uniform(-1e9, 1e9)
        self.session: int | None = None
        self._begin()

    def _begin(self) -> None:
        with patch.object(object_store, "open_objects", lambda _: Shared(self.world, self.number)):
            self.store = ObjectStore("s3://bucket/run", lease_s=LEASE_S)
        self.store.n_parallel = 1  # one thing at a time, in the order of the schedule
        self.lease, self.session = self.store.lock, None
        self.lease._clock, self.lease._pause = (lambda: self.now), self._pause

    def _pause(self, seconds: float) -> None:
        """Wait; whoever is awake renews meanwhile, by a clock of its own."""
        self.now += seconds
        for other in self.world.drivers:
            if other.session is not None and other.number not in self.world.occupied:
                other.now += seconds
                if self.world.chance.random() < 0.5:
                    other.try_to(other.lease._renew)

    def try_to(self, act) -> bool:
        """Whether it could be done; a driver that may not go on ends."""
        self.world.occupied.add(self.number)
        try:
            act()
        except RunError:
            self._begin()
            return False
        finally:
            self.world.occupied.discard(self.number)
        return True

    def step(self) -> None:
        """One thing that a driver does."""
        if self.session is None:
            self.try_to(self._take)
            return
        act = self.world.chance.choices((self._commit, self._let_go, self._begin), (8, 1, 1))[0]
        self.try_to(act)

    def _take(self) -> None:
        self.session = self.lease._take(lambda _: None)
        if self.session in self.world.sessions:
            raise Violation(f"session {self.session} twice")
        self.world.sessions.append(self.session)

    def _commit(self) -> None:
        ledger = Ledger(self.store)
        done = ledger.committed(SHARDS)
        left = [shard for shard in SHARDS if shard.shard_id not in done]
        if left and self.session is not None:
            shard = self.world.chance.choice(left)
            ledger.commit(self._traced(shard), run_seconds=1.0)
            if receipt_name(shard.shard_id) not in self.world.objects:
                raise Violation(f"shard {shard.shard_id} said to be committed, and is not")

    def _traced(self, shard: Shard) -> Receipt:
        attempt, parts = self.session * ATTEMPTS_PER_SESSION, {}
        for table in SHARD_TABLES:
            path = f"parts/{table.name}-{shard.shard_id}-{attempt}.parquet"
            self.world.objects[path] = (b"", "part")
            parts[table.name] = Part(table=table.name, path=path, n_rows=0, sha256="")
        return Receipt(
            shard_id=shard.shard_id, attempt=attempt, parts=parts, n_prompts=1, n_failures=0, seconds=1.0, host="h",
            device="cpu", versions={}, pid=self.number,
        )  # fmt: skip

    def _let_go(self) -> None:
        self.lease._let_go()
        self._begin()

    def finish(self) -> None:
        """Take over, in the end, and commit all that is left."""
        self._begin()
        self._take()
        for _ in SHARDS:
            self._commit()


def run_schedule(seed: int) -> World:
    """One schedule.

    Raises:
        Violation: naming the seed.
    """
    world = World(random.Random(seed))
    try:
        world.drivers = [OneDriver(world, number) for number in range(N_DRIVERS)]
        for _ in range(N_STEPS):
            world.chance.choice(world.drivers).step()
        world.is_calm = True
        for driver in world.drivers[1:]:
            driver.session = None
        world.drivers[0].finish()
        committed = Ledger(world.drivers[0].store).committed(SHARDS)
        if len(committed) != N_SHARDS:
            raise Violation(f"{len(committed)} shards of {N_SHARDS}")
        for receipt in committed.values():
            if any(str(receipt.attempt) not in part.path for part in receipt.parts.values()):
                raise Violation(f"shard {receipt.shard_id} mixes attempts")
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}") from violation
    return world


if __name__ == "__main__":
    run_schedule(int(sys.argv[1]))
