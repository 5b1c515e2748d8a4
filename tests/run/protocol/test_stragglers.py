"""What far longer means."""

from tracer.corpus.shards import Shard
from tracer.run.backlog import Assignment
from tracer.run.protocol.stragglers import AFTER_S, FACTOR, N_BEFORE, Stragglers


def attempt(n_prompts: int) -> Assignment:
    return Assignment(Shard(shard_id="s", file="f", start=0, n_prompts=n_prompts), 0)


def test_nothing_is_late_before_the_usual_time_is_known():
    stragglers = Stragglers()
    for _ in range(N_BEFORE):
        assert not stragglers.is_one(attempt(10), 1e9)
        stragglers.finished(attempt(10), 100.0)
    assert stragglers.is_one(attempt(10), 100.0 * FACTOR + 1)
    assert not stragglers.is_one(attempt(10), 100.0 * FACTOR - 1)


def test_a_large_shard_may_take_longer_and_a_quick_one_is_never_worth_it():
    stragglers = Stragglers()
    for _ in range(N_BEFORE):
        stragglers.finished(attempt(10), 100.0)
    assert not stragglers.is_one(attempt(20), 150.0 * FACTOR)
    assert not stragglers.is_one(attempt(1), AFTER_S)
    assert stragglers.is_one(attempt(1), AFTER_S + 1)
