"""Events, which say what happened, and actions, which say what to do about it. Times are seconds of any one clock."""

from dataclasses import dataclass

from tracer.corpus.shards import Shard
from tracer.errors import RunError
from tracer.run.backlog import Assignment
from tracer.run.ledger import Receipt, ShardError


@dataclass(frozen=True, slots=True)
class WorkerLoads:
    """A worker found room and begins to load its model."""

    worker: int
    now: float


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker has loaded its model."""

    worker: int
    now: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A worker never came up."""

    worker: int
    message: str
    now: float


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker died or cannot be reached, in which case it may still be at work."""

    worker: int
    error_class: str
    message: str
    now: float
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class ShardTraced:
    """A worker has written all parts of a shard."""

    worker: int
    receipt: Receipt
    now: float


@dataclass(frozen=True, slots=True)
class ShardFailed:
    """A worker lives on, but its attempt failed."""

    worker: int
    error: ShardError
    now: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time went by, and whatever was said until now was handed over before. `n_room`: workers that all machines could
    hold; `can_grow`: whether machines may still join.
    """

    n_room: int
    now: float
    can_grow: bool = True


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker under a number that was never used."""

    worker: int


@dataclass(frozen=True, slots=True)
class Fence:
    """Kill a worker, which may be dead already; nothing that it says from now on counts."""

    worker: int


@dataclass(frozen=True, slots=True)
class Assign:
    """Let an idle worker make an attempt."""

    worker: int
    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Commit:
    """Make a shard count; given once for each shard."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Retried:
    """Tell of a failed attempt that is not the shard's last."""

    error: ShardError


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Set a shard aside, with its last error."""

    shard: Shard
    error: ShardError
    n_attempts: int


@dataclass(frozen=True, slots=True)
class RefuseDemand:
    """End the run: the machines cannot hold `n_workers`, and waiting did not help."""

    n_workers: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the run with an error."""

    error: RunError


Event = WorkerLoads | WorkerUp | LoadFailed | WorkerLost | ShardTraced | ShardFailed | Tick
Action = Spawn | Fence | Assign | Commit | Retried | Quarantine | RefuseDemand | GiveUp
WorkerAction = Spawn | Fence | Assign | RefuseDemand
"""What the holder of the workers does; the rest concerns the ledger and the person who waits."""
