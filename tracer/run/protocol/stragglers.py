"""Stragglers: attempts that take far longer than those before them."""

from collections import deque
from statistics import median

from tracer.run.backlog import Assignment

FACTOR = 4.0
"""Times the usual time of a shard of its size after which an attempt is a straggler."""

AFTER_S = 60.0
"""Time, seconds, before which nothing is a straggler: a second attempt costs what it saves."""

N_BEFORE, N_REMEMBERED = 3, 101
"""Finished shards without which nothing is known of the usual time, and how many of the latest are looked at."""


class Stragglers:
    """Learns how long a prompt takes."""

    def __init__(self) -> None:
        self._seconds_per_prompt: deque[float] = deque(maxlen=N_REMEMBERED)

    def finished(self, assignment: Assignment, seconds: float) -> None:
        """An attempt ended with a receipt."""
        self._seconds_per_prompt.append(seconds / max(1, assignment.shard.n_prompts))

    def usual_seconds(self, assignment: Assignment) -> float | None:
        """What a shard of this size takes; None while too few are finished to tell."""
        if len(self._seconds_per_prompt) < N_BEFORE:
            return None
        return median(self._seconds_per_prompt) * assignment.shard.n_prompts

    def is_one(self, assignment: Assignment, seconds: float) -> bool:
        """Whether an attempt that has run for so long takes far longer than others did."""
        usual = self.usual_seconds(assignment)
        return usual is not None and seconds > max(AFTER_S, FACTOR * usual)
