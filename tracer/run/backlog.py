"""The backlog: shards still to do, tried a bounded number of times each, and without the prompts that spoil them."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from tracer.corpus.shards import Shard
from tracer.run.ledger import ShardError

ATTEMPTS_PER_SESSION = 10_000
"""Attempt numbers of driver session s start at s times this: unique whatever a dead driver had begun."""

SPOILT_ATTEMPTS = 2
"""Attempts that one prompt may spoil before it is skipped: memory that ran out once may suffice the next time."""

MAX_SKIPPED_PROMPTS = 4
"""Prompts of one shard that may be skipped: where more of them spoil it, the fault is not theirs."""


N_UNBLAMED = 2
"""Times that memory may run out before it is known which prompt of a pass did it: then each has a pass of its own."""

MAX_REISSUES = 2
"""Attempts at one shard that are made beside another that still runs."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one shard; `skipped` holds, for each prompt that must not be traced again, its last error."""

    shard: Shard
    attempt: int
    skipped: tuple[ShardError, ...] = ()
    n_halved: int = 0
    """Times that memory ran out on this shard: passes and batches of rows become smaller with each."""


class Backlog:
    """First in, first out; a failed shard goes to the end until its attempts of this session are used up."""

    def __init__(self, shards: Iterable[Shard], *, session: int, max_attempts: int) -> None:
        self._waiting = deque(shards)
        self._n_tried: Counter[str] = Counter()
        self._n_failed: Counter[str] = Counter()
        self._n_spoilt: Counter[tuple[str, str]] = Counter()
        self._n_halved: Counter[str] = Counter()
        self._n_reissued: Counter[str] = Counter()
        self._skipped: defaultdict[str, tuple[ShardError, ...]] = defaultdict(tuple)
        self._first_attempt = session * ATTEMPTS_PER_SESSION
        n_blamed = ATTEMPTS_PER_SESSION - 1 - N_UNBLAMED - MAX_REISSUES
        self._max_attempts = min(max_attempts, n_blamed // (MAX_SKIPPED_PROMPTS + 1))

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Assignment:
        """The next shard, with a number that no other attempt at it has."""
        return self._attempt_at(self._waiting.popleft())

    def reissue(self, shard: Shard) -> Assignment | None:
        """One more attempt at a shard that is being tried; None where it had `MAX_REISSUES` of them."""
        if self._n_reissued[shard.shard_id] >= MAX_REISSUES:
            return None
        self._n_reissued[shard.shard_id] += 1
        return self._attempt_at(shard)

    def give_back(self, shard: Shard, error: ShardError) -> bool:
        """Try a failed shard again later; False where it has no attempt left.

        Where memory ran out, the next attempt needs less; no failure is counted while it is not known which prompt of
        a pass did it. A prompt that spoilt `SPOILT_ATTEMPTS` of them is skipped from then on, and the count of attempts
        starts anew.
        """
        if error.needs_fresh_process:
            self._n_halved[shard.shard_id] += 1
            if error.prompt_id is None and self._n_halved[shard.shard_id] <= N_UNBLAMED:
                self._waiting.append(shard)
                return True
        self._n_failed[shard.shard_id] += 1
        if self._must_skip(shard, error):
            self._skipped[shard.shard_id] += (error,)
            self._n_failed[shard.shard_id] = 0
        if self._n_failed[shard.shard_id] >= self._max_attempts:
            return False
        self._waiting.append(shard)
        return True

    def n_tried(self, shard: Shard) -> int:
        """Attempts at a shard in this session."""
        return self._n_tried[shard.shard_id]

    def _attempt_at(self, shard: Shard) -> Assignment:
        attempt = self._first_attempt + self._n_tried[shard.shard_id]
        self._n_tried[shard.shard_id] += 1
        return Assignment(shard, attempt, self._skipped[shard.shard_id], self._n_halved[shard.shard_id])

    def _must_skip(self, shard: Shard, error: ShardError) -> bool:
        if error.prompt_id is None or len(self._skipped[shard.shard_id]) >= MAX_SKIPPED_PROMPTS:
            return False
        spoilt = (shard.shard_id, error.prompt_id)
        self._n_spoilt[spoilt] += 1
        return self._n_spoilt[spoilt] >= min(SPOILT_ATTEMPTS, self._max_attempts)
