"""Hung workers: at one thing for so long that nobody believes in its end any more.

Such a worker is one that is lost: nothing tells a stuck device call or network mount from a machine that is gone.
"""

from collections.abc import Iterator

from tracer.run.protocol.crew import Crew
from tracer.run.protocol.messages import LoadFailed, WorkerLost
from tracer.run.protocol.stragglers import Stragglers

FACTOR = 20.0
"""Times the usual time of a shard of its size before which no attempt is hung, however short the wait that is set."""

UNKNOWN_FACTOR = 10.0
"""Times `after_s` that an attempt may take while it is not known what is usual: honest shards may take hours."""

ERROR_CLASS = "HungError"
"""What the errors of a run call it."""


def hung(
    crew: Crew, stragglers: Stragglers, *, after_s: float, seconds: float, now: float
) -> Iterator[LoadFailed | WorkerLost]:
    """What a driver tells itself of workers that say nothing any more.

    Args:
        crew: the workers.
        stragglers: what is known of the usual time.
        after_s: time before which nothing is hung.
        seconds: the driver's own time.
        now: what the clock of the events says.
    """
    setting = f"runner.hung_after_s is {after_s:g}"
    for worker, held, since in crew.occupied:
        n_seconds = seconds - since
        if held is None and n_seconds >= after_s:
            yield LoadFailed(worker, f"still loading after {n_seconds:.0f} s ({setting})", now)
        elif held is not None:
            usual = stragglers.usual_seconds(held)
            if n_seconds >= (UNKNOWN_FACTOR * after_s if usual is None else max(after_s, FACTOR * usual)):
                beside = "" if usual is None else f", where {usual:.0f} s are usual"
                yield WorkerLost(worker, ERROR_CLASS, f"no receipt after {n_seconds:.0f} s{beside} ({setting})", now)
