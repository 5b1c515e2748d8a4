"""The backlog: shards still to do, tried a bounded number of times each."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from tracer.corpus.shards import Shard

ATTEMPTS_PER_SESSION = 10_000
"""Attempt numbers of driver session s start at s times this: unique whatever a dead driver had begun."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one shard."""

    shard: Shard
    attempt: int


class Backlog:
    """First in, first out; a failed shard goes to the end until its attempts of this session are used up."""

    def __init__(self, shards: Iterable[Shard], *, session: int, max_attempts: int) -> None:
        self._waiting = deque(shards)
        self._n_tried: Counter[str] = Counter()
        self._first_attempt = session * ATTEMPTS_PER_SESSION
        self._max_attempts = min(max_attempts, ATTEMPTS_PER_SESSION)

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Assignment:
        """The next shard, with a number that no other attempt at it has."""
        shard = self._waiting.popleft()
        attempt = self._first_attempt + self._n_tried[shard.shard_id]
        self._n_tried[shard.shard_id] += 1
        return Assignment(shard, attempt)

    def give_back(self, shard: Shard) -> bool:
        """Try a failed shard again later; False where it has no attempt left."""
        if self.n_tried(shard) >= self._max_attempts:
            return False
        self._waiting.append(shard)
        return True

    def n_tried(self, shard: Shard) -> int:
        """Attempts at a shard in this session."""
        return self._n_tried[shard.shard_id]
