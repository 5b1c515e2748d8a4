"""Bounded attempts with numbers that never repeat."""

from hypothesis import given
from hypothesis import strategies as st

from tracer.corpus.shards import Shard
from tracer.run.backlog import (
    ATTEMPTS_PER_SESSION,
    MAX_REISSUES,
    MAX_SKIPPED_PROMPTS,
    N_UNBLAMED,
    SPOILT_ATTEMPTS,
    Assignment,
    Backlog,
)
from tracer.run.ledger import ShardError

SHARDS = [
    Shard(shard_id=f"s{number}", file="corpus/prompts-00000.parquet", start=number, n_prompts=1) for number in range(5)
]


def failed(assignment: Assignment, prompt_id: str | None = None, *, ran_out: bool = False) -> ShardError:
    return ShardError(
        shard_id=assignment.shard.shard_id,
        attempt=assignment.attempt,
        error_class="MemoryError",
        message="made to fail",
        prompt_id=prompt_id,
        needs_fresh_process=ran_out,
    )


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
            elif not backlog.give_back(assignment.shard, failed(assignment)):
                assert backlog.n_tried(assignment.shard) == max_attempts
                n_given_up += 1
        assert n_done + n_given_up == len(SHARDS)


def test_a_failed_shard_is_tried_again_after_the_others():
    backlog = Backlog(SHARDS[:3], session=0, max_attempts=2)
    first = backlog.take()
    backlog.give_back(first.shard, failed(first))
    assert [backlog.take().shard.shard_id for _ in range(len(backlog))] == ["s1", "s2", "s0"]


@given(n_bad=st.integers(0, 8), max_attempts=st.integers(1, 5))
def test_prompts_that_spoil_their_shard_again_and_again_are_skipped_up_to_a_bound(n_bad, max_attempts):
    backlog = Backlog(SHARDS[:1], session=0, max_attempts=max_attempts)
    bad = [f"p{number}" for number in range(n_bad)]
    done, n_taken = False, 0
    while backlog and not done:
        assignment = backlog.take()
        n_taken += 1
        skipped = [error.prompt_id for error in assignment.skipped]
        assert skipped == bad[: len(skipped)]
        assert len(skipped) <= MAX_SKIPPED_PROMPTS
        if len(skipped) == n_bad:
            done = True
        else:
            backlog.give_back(assignment.shard, failed(assignment, bad[len(skipped)]))
    assert done == (n_bad <= MAX_SKIPPED_PROMPTS)
    n_per_prompt = min(SPOILT_ATTEMPTS, max_attempts)
    assert n_taken == (n_bad * n_per_prompt + 1 if done else MAX_SKIPPED_PROMPTS * n_per_prompt + max_attempts)


def test_a_prompt_that_spoils_one_attempt_only_is_not_skipped():
    backlog = Backlog(SHARDS[:1], session=0, max_attempts=3)
    first = backlog.take()
    assert backlog.give_back(first.shard, failed(first, "p0"))
    assert backlog.take().skipped == ()


@given(max_attempts=st.integers(1, 5))
def test_memory_that_runs_out_makes_attempts_smaller_and_counts_only_once_nobody_else_can_be_blamed(max_attempts):
    backlog = Backlog(SHARDS[:1], session=0, max_attempts=max_attempts)
    n_halved = []
    while backlog:
        assignment = backlog.take()
        n_halved.append(assignment.n_halved)
        backlog.give_back(assignment.shard, failed(assignment, ran_out=True))
    assert n_halved == list(range(N_UNBLAMED + max_attempts))


def test_a_shard_is_reissued_a_bounded_number_of_times_under_numbers_of_its_own():
    backlog = Backlog(SHARDS[:1], session=2, max_attempts=3)
    first = backlog.take()
    again = [backlog.reissue(first.shard) for _ in range(MAX_REISSUES + 1)]
    assert again[-1] is None
    assert len({first.attempt, *(assignment.attempt for assignment in again[:-1])}) == MAX_REISSUES + 1
    assert len(backlog) == 0


def test_attempts_of_a_session_never_reach_the_numbers_of_the_next_however_many_are_allowed():
    backlog = Backlog(SHARDS[:1], session=0, max_attempts=10**6)
    last = backlog.take()
    for _ in range(MAX_REISSUES):
        last = backlog.reissue(last.shard)
    while backlog.give_back(last.shard, failed(last, f"p{len(last.skipped)}", ran_out=True)):
        last = backlog.take()
    assert last.attempt < ATTEMPTS_PER_SESSION
