"""How many requests are in flight, and how fast they follow each other.

As in inspect_ai: twice as many after each round of answers until the endpoint first says 429; then a fifth fewer for
each episode of 429, in which further ones do not count, and a twentieth more for each round of answers without one.
Other failures change nothing: they say nothing about the limit. Added here: never fewer than the endpoint is seen to
bear (its rate of answers times their latency); and from the first 429 on requests keep a distance, which each answer
shortens and each 429 lengthens, so that a limit of rate is met, and not run against by everybody that waits.
"""

import asyncio
import heapq
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SHRINK, GROWTH = 0.8, 1.05
FIRST_GAP_SHARE = 0.25
"""Of the time that the first 429 asks to wait, and of at most a second: the time between requests to begin with, where
no rate of answers is known yet.
"""
FAST_GAP, SLOW_GAP, WIDER_GAP = 0.9, 0.99, 1.05
"""Factors on that time: for each answer until the next 429, for each answer afterwards, for each 429."""
N_REMEMBERED = 50
"""Answers from which rate and latency are known."""
N_KNOWN = 5
"""Fewest of them that say anything."""


class AdaptiveLimit:
    """Lets requests through, those of the oldest calls first; used in one event loop."""

    def __init__(self, *, start: int, most: int, cooldown_s: float) -> None:
        self.limit = float(min(start, most))
        self.in_flight = 0
        self._most, self._cooldown_s = most, cooldown_s
        self._n_answers, self._was_full = 0, False
        self._refused_at, self._gap_s, self._gap_factor = -math.inf, 0.0, FAST_GAP
        self._cool_until, self._sent_at, self._next_at, self._timer_at = 0.0, -math.inf, 0.0, math.inf
        self._answers: deque[tuple[float, float]] = deque(maxlen=N_REMEMBERED)
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._n_waited = 0

    @asynccontextmanager
    async def slot(self, age: int) -> AsyncIterator[None]:
        """Hold one of the places in flight; of those that wait, the lowest `age` comes first."""
        turn = asyncio.get_running_loop().create_future()
        self._n_waited += 1
        heapq.heappush(self._waiting, (age, self._n_waited, turn))
        self._let_through()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        try:
            yield
        finally:
            self._leave()

    def answered(self, latency_s: float) -> None:
        """An answer came: after a round of them, all places taken, there may be more."""
        now = self._now()
        self._answers.append((now, latency_s))
        self._n_answers += 1
        self._gap_s *= self._gap_factor
        if self._n_answers < int(self.limit) or not self._was_full:
            return
        self._n_answers, self._was_full = 0, False
        if self._refused_at == -math.inf:
            self.limit = min(self.limit * 2, self._most)
        elif now >= self._cool_until:
            self.limit = min(self.limit * GROWTH, self._most)

    def refused(self, retry_after_s: float | None, *, sent_at: float) -> None:
        """The endpoint said 429 to a request: wait as long as it asks, and send fewer of them from now on.

        What was sent before an earlier 429 was known is part of its episode, and only waits. The last request of all
        used up nothing if it is refused: the next one goes as soon as the endpoint says, however near that is.
        """
        now, pause_s = self._now(), retry_after_s or 0.0
        self._n_answers = 0
        is_last = retry_after_s is not None and sent_at >= self._sent_at
        self._next_at = now + pause_s if is_last else max(self._next_at, now + pause_s)
        if sent_at < self._refused_at:
            return
        if self._refused_at == -math.inf:
            self._gap_s = 1 / self._rate() if self._rate() else FIRST_GAP_SHARE * min(pause_s, 1.0)
        else:
            self._gap_s, self._gap_factor = self._gap_s * WIDER_GAP, SLOW_GAP
        self._refused_at = now
        if now >= self._cool_until:
            self.limit = max(self.limit * SHRINK, min(self.limit, self._borne()), 1.0)
            self._cool_until = now + max(self._cooldown_s, pause_s)

    def _leave(self) -> None:
        self.in_flight -= 1
        self._let_through()

    def _let_through(self) -> None:
        now = self._now()
        while self._waiting and self.in_flight < int(self.limit):
            if self._waiting[0][2].done():
                heapq.heappop(self._waiting)
                continue
            if now < self._next_at:
                self._wake_at(self._next_at)
                return
            _, _, turn = heapq.heappop(self._waiting)
            self.in_flight += 1
            self._sent_at, self._next_at = now, now + self._gap_s
            turn.set_result(None)
        self._was_full = self._was_full or self.in_flight >= int(self.limit)

    def _wake_at(self, when: float) -> None:
        if self._now() < self._timer_at <= when:
            return
        self._timer_at = when
        asyncio.get_running_loop().call_at(when, self._let_through)

    def _borne(self) -> float:
        """How many requests the endpoint answers at once, by Little's law: rate times latency."""
        if not self._answers:
            return 0.0
        return self._rate() * sum(latency_s for _, latency_s in self._answers) / len(self._answers)

    def _rate(self) -> float:
        """Answers a second, lately; 0 as long as there are too few."""
        if len(self._answers) < N_KNOWN:
            return 0.0
        return len(self._answers) / max(self._now() - self._answers[0][0], 1e-3)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
