"""The workers as the driver believes them to be: waiting for room, loading, idle or at work on one attempt."""

from tracer.corpus.shards import Shard
from tracer.run.backlog import Assignment


class Crew:
    """Workers by number. One that was removed is never known again."""

    def __init__(self) -> None:
        self._n_hired = 0
        self._starting: dict[int, float | None] = {}
        self._idle: list[int] = []
        self._busy: dict[int, tuple[Assignment, float]] = {}

    def __len__(self) -> int:
        return len(self._starting) + len(self._idle) + len(self._busy)

    def __contains__(self, worker: int) -> bool:
        return worker in self._starting or worker in self._idle or worker in self._busy

    @property
    def n_idle(self) -> int:
        """Workers that wait for an attempt."""
        return len(self._idle)

    @property
    def at_work(self) -> list[tuple[Assignment, float]]:
        """Attempts that run, and when they began, oldest first."""
        return list(self._busy.values())

    @property
    def occupied(self) -> list[tuple[int, Assignment | None, float]]:
        """Workers that do something, what (None: they load their model), and since when. None who waits for room."""
        loading = [(worker, None, since) for worker, since in self._starting.items() if since is not None]
        return [*loading, *((worker, held, since) for worker, (held, since) in self._busy.items())]

    def hire(self) -> int:
        """A new worker, which waits for room."""
        worker = self._n_hired
        self._n_hired += 1
        self._starting[worker] = None
        return worker

    def loads(self, worker: int, now: float) -> None:
        """A worker that waited for room loads its model from now on."""
        if worker in self._starting and self._starting[worker] is None:
            self._starting[worker] = now

    def came_up(self, worker: int) -> bool:
        """A worker that was starting is idle now; False where it was not."""
        if worker not in self._starting:
            return False
        del self._starting[worker]
        self._idle.append(worker)
        return True

    def give(self, assignment: Assignment, now: float) -> int:
        """Hand an attempt to an idle worker, whose number is returned."""
        worker = self._idle.pop()
        self._busy[worker] = (assignment, now)
        return worker

    def finish(self, worker: int) -> tuple[Assignment, float]:
        """A worker is idle again; gives what it had, and since when."""
        held = self._busy.pop(worker)
        self._idle.append(worker)
        return held

    def holds(self, worker: int, shard_id: str, attempt: int) -> bool:
        """Whether this worker is at this attempt."""
        held = self._busy.get(worker)
        return held is not None and (held[0].shard.shard_id, held[0].attempt) == (shard_id, attempt)

    def workers_on(self, shard: Shard) -> list[int]:
        """Workers that are at an attempt at `shard`."""
        return [worker for worker, (held, _) in self._busy.items() if held.shard.shard_id == shard.shard_id]

    def remove(self, worker: int) -> Assignment | None:
        """Forget a worker; gives the attempt that it was at."""
        self._starting.pop(worker, None)
        if worker in self._idle:
            self._idle.remove(worker)
        held = self._busy.pop(worker, None)
        return None if held is None else held[0]
