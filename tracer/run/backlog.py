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


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt at one shard; `skipped` holds, for each prompt that must not be traced again, its last error."""

    shard: Shard
    attempt: int
    skipped: tuple[ShardError, ...] = ()
    one_by_one: bool = False
    """Whether each prompt gets a pass of its own, so that one that does not fit can be told from its neighbours."""


class Backlog:
    """First in, first out; a failed shard goes to the end until its attempts of this session are used up."""

    def __init__(self, shards: Iterable[Shard], *, session: int, max_attempts: int) -> None:
        self._waiting = deque(shards)
        self._n_tried: Counter[str] = Counter()
        self._n_failed: Counter[str] = Counter()
        self._n_spoilt: Counter[tuple[str, str]] = Counter()
        self._one_by_one: set[str] = set()
        self._skipped: defaultdict[str, tuple[ShardError, ...]] = defaultdict(tuple)
        self._first_attempt = session * ATTEMPTS_PER_SESSION
        self._max_attempts = min(max_attempts, (ATTEMPTS_PER_SESSION - 1) // (MAX_SKIPPED_PROMPTS + 1))

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Assignment:
        """The next shard, with a number that no other attempt at it has."""
        shard = self._waiting.popleft()
        attempt = self._first_attempt + self._n_tried[shard.shard_id]
        self._n_tried[shard.shard_id] += 1
        return Assignment(shard, attempt, self._skipped[shard.shard_id], shard.shard_id in self._one_by_one)

    def give_back(self, shard: Shard, error: ShardError) -> bool:
        """Try a failed shard again later; False where it has no attempt left.

        A prompt that spoilt `SPOILT_ATTEMPTS` of them is skipped from then on, and the count of attempts starts anew.
        Where it is not known which prompt of a pass did, the shard is tried prompt by prompt; no failure is counted.
        """
        if error.needs_fresh_process and error.prompt_id is None and shard.shard_id not in self._one_by_one:
            self._one_by_one.add(shard.shard_id)
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

    def _must_skip(self, shard: Shard, error: ShardError) -> bool:
        if error.prompt_id is None or len(self._skipped[shard.shard_id]) >= MAX_SKIPPED_PROMPTS:
            return False
        spoilt = (shard.shard_id, error.prompt_id)
        self._n_spoilt[spoilt] += 1
        return self._n_spoilt[spoilt] >= min(SPOILT_ATTEMPTS, self._max_attempts)
