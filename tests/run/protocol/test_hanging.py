"""Workers that say nothing any more: when the driver stops to believe in them, and what it does then."""

import pytest

from tests.run.protocol.test_driver import begin, driver_of, receipt_of
from tracer.run.protocol.clock import LONGEST_STEP_S
from tracer.run.protocol.driver import Driver
from tracer.run.protocol.hanging import ERROR_CLASS, FACTOR, UNKNOWN_FACTOR
from tracer.run.protocol.messages import (
    Action,
    Assign,
    Commit,
    Fence,
    GiveUp,
    Quarantine,
    Retried,
    ShardTraced,
    Spawn,
    Tick,
    WorkerLoads,
    WorkerUp,
)
from tracer.run.protocol.stragglers import N_BEFORE


def wait(driver: Driver, start: float, seconds: float, step: float = 10.0) -> tuple[float, list[Action]]:
    """Ticks until something is done about it, for so long at most; gives when that is, and what is done."""
    now = start
    while now < start + seconds:
        now = min(now + step, start + seconds)
        if actions := driver.handle(Tick(8, now=now)):
            return now, actions
    return now, []


def test_the_only_worker_hangs_and_is_replaced_by_one_that_tries_again():
    driver = driver_of(1, n_actors=1, hung_after_s=100 / UNKNOWN_FACTOR)
    (first,) = begin(driver, 1)
    now, (fenced, told, spawned) = wait(driver, 0.0, 1000.0)
    assert (now, fenced, spawned) == (100.0, Fence(0), Spawn(1))
    assert isinstance(told, Retried)
    assert (told.error.error_class, told.error.attempt, told.error.needs_fresh_process) == (ERROR_CLASS, 0, False)
    assert told.error.message == "no receipt after 100 s (runner.hung_after_s is 10)"
    assert driver.handle(ShardTraced(0, receipt_of(first), now=101.0)) == [], "it woke up"
    (second,) = driver.handle(WorkerUp(1, now=102.0))
    assert second.assignment.attempt == 1
    assert driver.handle(ShardTraced(1, receipt_of(second), now=103.0)) == [Commit(receipt_of(second))]


def test_a_shard_that_hangs_every_time_is_given_up_after_its_attempts():
    driver = driver_of(1, n_actors=1, hung_after_s=100 / UNKNOWN_FACTOR, max_attempts=2, any_committed=True)
    begin(driver, 1)
    now, _ = wait(driver, 0.0, 1000.0)
    driver.handle(WorkerUp(1, now=now))
    now, (fenced, given_up) = wait(driver, now, 1000.0)
    assert isinstance(given_up, Quarantine)
    assert (now, fenced, given_up.n_attempts, given_up.error.error_class) == (200.0, Fence(1), 2, ERROR_CLASS)
    assert driver.is_done


def test_honest_shards_of_more_than_the_wait_are_not_hung_before_their_usual_time_is_known():
    driver = driver_of(N_BEFORE + 2, n_actors=1, hung_after_s=3600)
    (attempt,), now = begin(driver, 1), 0.0
    for _ in range(N_BEFORE + 1):
        assert wait(driver, now, 4200.0) == (now + 4200.0, [])
        now += 4200.0
        committed, attempt = driver.handle(ShardTraced(0, receipt_of(attempt), now=now))
        assert isinstance(committed, Commit)


@pytest.mark.parametrize("usual_s", [1.0, 30.0])
def test_what_is_usual_may_make_the_driver_more_patient_and_never_less(usual_s):
    driver = driver_of(N_BEFORE + 1, n_actors=1, hung_after_s=100)
    (attempt,), now = begin(driver, 1), 0.0
    for _ in range(N_BEFORE):
        now += usual_s
        _, attempt = driver.handle(ShardTraced(0, receipt_of(attempt), now=now))
    hung_at, (_, told, _) = wait(driver, now, 10_000.0)
    assert hung_at - now == max(100.0, FACTOR * usual_s)
    assert f"where {usual_s:.0f} s are usual" in told.error.message


def test_time_that_the_driver_did_not_watch_is_not_held_against_a_worker():
    driver = driver_of(1, n_actors=1, hung_after_s=100 / UNKNOWN_FACTOR)
    begin(driver, 1)
    assert driver.handle(Tick(1, now=86_400.0)) == [], "it stood still for a day"
    assert driver.handle(Tick(1, now=0.0)) == [], "its clock was set back"
    now, actions = wait(driver, 0.0, 1000.0)
    assert (now, actions[0]) == (100.0 - LONGEST_STEP_S, Fence(0))


def test_two_attempts_at_one_shard_that_both_hang_cost_one():
    driver = driver_of(N_BEFORE + 1, n_actors=2, hung_after_s=1000, max_attempts=2)
    slow, quick = begin(driver, 2)
    for now in (1.0, 2.0, 3.0):
        _, *rest = driver.handle(ShardTraced(1, receipt_of(quick), now=now))
        quick = rest[0] if rest else quick
    assert driver.handle(Tick(2, now=10.0)) == []
    again_at, (again,) = wait(driver, 10.0, 1000.0)
    assert again.assignment.shard == slow.assignment.shard
    now, (fenced, told, *_) = wait(driver, again_at, 2000.0)
    assert (now, fenced.worker, told.error.attempt) == (1000.0, slow.worker, 0)
    now, (fenced, told, *_) = wait(driver, now, 2000.0)
    assert (now, fenced.worker) == (again_at + 1000.0, again.worker)
    assert isinstance(told, Retried), "one attempt is left"


def test_a_load_that_hangs_counts_as_failed_from_when_there_was_room_for_it():
    driver = driver_of(3, n_actors=1, max_load_failures=2, hung_after_s=100)
    driver.handle(Tick(1, now=0.0))
    now, actions = wait(driver, 0.0, 10_000.0)
    assert actions == [], "it waits for room, for as long as it takes"
    driver.handle(WorkerLoads(0, now=now))
    driver.handle(WorkerLoads(0, now=now + 50))  # said twice
    failed_at, actions = wait(driver, now + 50, 1000.0)
    assert (failed_at, actions) == (now + 100, [Fence(0), Spawn(1)])
    driver.handle(WorkerLoads(1, now=failed_at))
    _, (fenced, stop) = wait(driver, failed_at, 1000.0)
    assert (fenced, type(stop)) == (Fence(1), GiveUp)
    assert "2 failed starts, the last with: still loading after 100 s (runner.hung_after_s is 100)" in str(stop.error)


def test_what_is_said_of_a_load_too_late_changes_nothing():
    driver = driver_of(1, n_actors=1, hung_after_s=100 / UNKNOWN_FACTOR)
    driver.handle(Tick(1, now=0.0))
    (attempt,) = driver.handle(WorkerUp(0, now=1.0))
    assert isinstance(attempt, Assign)
    assert driver.handle(WorkerLoads(0, now=50.0)) == []
    assert driver.handle(Tick(1, now=100.0)) == []
    assert driver.handle(Tick(1, now=101.0))[0] == Fence(0)
    assert driver.handle(WorkerLoads(0, now=102.0)) == [], "of a fenced one"
