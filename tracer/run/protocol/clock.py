"""Time as a driver saw it go by, which is what counts against a worker."""

LONGEST_STEP_S = 60.0
"""Time, seconds, that counts at most between two events: a driver that stood still, or whose clock leapt, saw no worker
do nothing in between.
"""


class WatchedTime:
    """Seconds since the first event, by a clock that may be set back or forward at any moment."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._looked_at: float | None = None

    def look(self, now: float) -> None:
        """Something happened when the clock said `now`; where it went back, no time went by."""
        if self._looked_at is not None:
            self.seconds += min(max(now - self._looked_at, 0.0), LONGEST_STEP_S)
        self._looked_at = now
