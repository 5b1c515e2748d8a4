"""Bounded attempts with numbers that never repeat."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.corpus.shards import Shard
from tracer.run.backlog import Backlog

SHARDS = [
    Shard(shard_id=f"s{number}", file="corpus/prompts-00000.parquet", start=number, n_prompts=1) for number in range(5)
]


@given(n_sessions=st.integers(1, 4), max_attempts=st.integers(1, 5), fails=st.lists(st.booleans(), max_size=60))
def test_attempt_numbers_are_unique_over_sessions_and_attempts_are_bounded(n_sessions, max_attempts, fails):
    fails, seen = iter(fails), set()
    for session in range(n_sessions):
        backlog = Backlog(SHARDS, session=session, max_attempts=max_attempts)
        n_given_up = n_done = 0
        while backlog:
            assignment = backlog.take()
            name = (assignment.shard.shard_id, assignment.attempt)
            assert name not in seen
            seen.add(name)
            assert backlog.n_tried(assignment.shard) <= max_attempts
            if not next(fails, False):
                n_done += 1
            elif not backlog.give_back(assignment.shard):
                assert backlog.n_tried(assignment.shard) == max_attempts
                n_given_up += 1
        assert n_done + n_given_up == len(SHARDS)


def test_a_failed_shard_is_tried_again_after_the_others():
    backlog = Backlog(SHARDS[:3], session=0, max_attempts=2)
    first = backlog.take()
    backlog.give_back(first.shard)
    assert [backlog.take().shard.shard_id for _ in range(len(backlog))] == ["s1", "s2", "s0"]
