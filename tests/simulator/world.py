"""A made-up cluster: a clock, storage, room for workers, and faults that a seed decides, until they stop."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

TABLE_NAMES = ("prompts", "graphs", "edges")
CALM_AT_S = 400.0
"""Time at which the last fault happens."""
MAX_STEPS = 20_000


class Violation(AssertionError):
    """The protocol broke a promise."""


class DriverCrash(Exception):
    """The driver's process is gone."""


@dataclass
class Storage:
    """What survives: parts by (table, shard, attempt) with the process that wrote them, receipts, quarantine."""

    parts: dict[tuple[str, str, int], int] = field(default_factory=dict)
    receipts: dict[str, dict] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    n_sessions: int = 0


class World:
    """Everything outside the driver; the same seed gives the same history."""

    def __init__(self, seed: int, *, log: Callable[[str], None] | None = None) -> None:
        self.random = random.Random(seed)
        self.time = self.skew = 0.0
        self.storage = Storage()
        self.room = self.max_room = self.random.randint(1, 4)
        self.placed: list[Callable[[], None]] = []
        self.waiting: list[tuple[Callable[[], None], Callable[[], None]]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._n_scheduled = self._n_steps = 0
        self._fault_rate = self.random.choice((0.02, 0.1, 0.3))
        self._log = log
        self.after(self.random.expovariate(1 / 100), self._change_room)
        self.after(CALM_AT_S, self._change_room)

    @property
    def clock(self) -> float:
        """What the driver's clock says, which may jump."""
        if self.fails(0.1):
            self.skew = self.random.uniform(-1000, 1000)
            self.note("clock jumps")
        return self.time + self.skew

    def note(self, what: str) -> None:
        """A line of the history, where one is kept."""
        if self._log is not None:
            self._log(f"{self.time:8.1f}  {what}")

    def fails(self, share: float = 1.0) -> bool:
        """Whether a fault happens here; never once it is calm."""
        return self.time < CALM_AT_S and self.random.random() < self._fault_rate * share

    def delay(self) -> float:
        """How long something takes: now and then, very long."""
        return self.random.uniform(20, 200) if self.fails(0.5) else self.random.uniform(0.1, 5)

    def after(self, seconds: float, happens: Callable[[], None]) -> None:
        """Let something happen later."""
        self._n_scheduled += 1
        heapq.heappush(self._due, (self.time + seconds, self._n_scheduled, happens))

    def step(self, until: float) -> bool:
        """Let the next thing happen, if it does before `until`; False, and time goes by, where nothing does."""
        self._n_steps += 1
        if self._n_steps > MAX_STEPS:
            raise Violation("no end although the faults stopped")
        if not self._due or self._due[0][0] > until:
            self.time = max(self.time, until)
            return False
        due, _, happens = heapq.heappop(self._due)
        self.time = max(self.time, due)
        happens()
        return True

    def place(self, start: Callable[[], None], kill: Callable[[], None]) -> None:
        """Start a process as soon as there is room."""
        self.waiting.append((start, kill))
        self.fill()

    def leave(self, kill: Callable[[], None]) -> None:
        """A process is gone, or does not want its place any more."""
        self.placed = [other for other in self.placed if other != kill]
        self.waiting = [(start, other) for start, other in self.waiting if other != kill]
        self.fill()

    def fill(self) -> None:
        """Give room to those that wait."""
        while self.waiting and len(self.placed) < self.room:
            start, kill = self.waiting.pop(0)
            self.placed.append(kill)
            start()

    def _change_room(self) -> None:
        """A machine leaves with what is on it, or joins; all are back once it is calm."""
        is_calm = self.time >= CALM_AT_S
        self.room = self.max_room if is_calm else self.random.randint(0, self.max_room)
        self.note(f"room for {self.room}")
        while len(self.placed) > self.room:
            self.random.choice(self.placed)()
        self.fill()
        if not is_calm:
            self.after(self.random.expovariate(1 / 100), self._change_room)
