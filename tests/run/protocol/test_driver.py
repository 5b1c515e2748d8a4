"""Decisions, one event at a time; long histories are in `tests/simulator`."""

import pytest

from tracer.config import RunnerConfig
from tracer.corpus.shards import Shard
from tracer.run.backlog import MAX_REISSUES, Backlog
from tracer.run.ledger import Receipt, ShardError
from tracer.run.protocol.driver import HOPELESS_AFTER, Driver
from tracer.run.protocol.messages import (
    Assign,
    Commit,
    Fence,
    GiveUp,
    LoadFailed,
    Quarantine,
    RefuseDemand,
    Retried,
    ShardFailed,
    ShardTraced,
    Spawn,
    Tick,
    WorkerLost,
    WorkerUp,
)


def driver_of(n_shards: int, *, any_committed: bool = False, **runner: object) -> Driver:
    shards = [Shard(shard_id=f"s{idx}", file="f", start=idx, n_prompts=1) for idx in range(n_shards)]
    config = RunnerConfig(**runner)
    return Driver(Backlog(shards, session=0, max_attempts=config.max_attempts), config, any_committed=any_committed)


def receipt_of(action: Assign) -> Receipt:
    return Receipt(
        shard_id=action.assignment.shard.shard_id, attempt=action.assignment.attempt, parts={}, n_prompts=1,
        n_failures=0, seconds=1.0, host="h", device="cpu", versions={},
    )  # fmt: skip


def error_of(action: Assign, **more: object) -> ShardError:
    shard_id, attempt = action.assignment.shard.shard_id, action.assignment.attempt
    return ShardError(shard_id=shard_id, attempt=attempt, error_class="ValueError", message="no", **more)


def lost(worker: int, now: float = 1.0, **more: bool) -> WorkerLost:
    return WorkerLost(worker, "ActorDiedError", "gone", now, **more)


def begin(driver: Driver, n_workers: int) -> list[Assign]:
    """The first attempts of workers that come up in their order."""
    assert driver.handle(Tick(n_workers, now=0.0)) == [Spawn(worker) for worker in range(n_workers)]
    return [action for worker in range(n_workers) for action in driver.handle(WorkerUp(worker, now=0.0))]


def test_a_run_without_trouble():
    driver = driver_of(3, n_actors=2)
    first, second = begin(driver, 2)
    committed, third = driver.handle(ShardTraced(0, receipt_of(first), now=1.0))
    assert committed == Commit(receipt_of(first))
    assert (third.worker, third.assignment.shard.shard_id) == (0, "s2")
    assert driver.handle(ShardTraced(1, receipt_of(second), now=2.0)) == [Commit(receipt_of(second))]
    assert not driver.is_done
    assert driver.handle(ShardTraced(0, receipt_of(third), now=3.0)) == [Commit(receipt_of(third))]
    assert driver.is_done


def test_no_more_workers_are_wanted_than_there_are_shards():
    assert driver_of(2, n_actors=8).handle(Tick(8, now=0.0)) == [Spawn(0), Spawn(1)]


def test_a_receipt_counts_once_and_only_from_who_has_the_attempt():
    driver = driver_of(1, n_actors=1)
    (first,) = begin(driver, 1)
    fenced, told, spawned = driver.handle(lost(0))
    assert (fenced, told.error.error_class, spawned) == (Fence(0), "ActorDiedError", Spawn(1))
    assert driver.handle(ShardTraced(0, receipt_of(first), now=2.0)) == [], "of a fenced worker"
    (second,) = driver.handle(WorkerUp(1, now=3.0))
    assert second.assignment.attempt == 1
    assert driver.handle(ShardTraced(1, receipt_of(first), now=4.0)) == [], "of an older attempt"
    assert driver.handle(ShardTraced(1, receipt_of(second), now=5.0)) == [Commit(receipt_of(second))]
    assert driver.handle(ShardTraced(1, receipt_of(second), now=6.0)) == [], "said twice"


def test_a_shard_that_always_kills_its_worker_is_given_up_after_its_attempts():
    driver = driver_of(1, n_actors=1, max_attempts=2, any_committed=True)
    begin(driver, 1)
    driver.handle(lost(0))
    driver.handle(WorkerUp(1, now=1.0))
    fenced, given_up = driver.handle(lost(1))
    assert isinstance(given_up, Quarantine)
    assert (fenced, given_up.n_attempts, given_up.error.attempt) == (Fence(1), 2, 1)
    assert driver.is_done


def test_memory_that_ran_out_costs_a_fresh_process_and_makes_the_next_attempt_smaller():
    driver = driver_of(1, n_actors=1)
    (first,) = begin(driver, 1)
    actions = driver.handle(ShardFailed(0, error_of(first, needs_fresh_process=True), now=1.0))
    assert actions == [Fence(0), Retried(error_of(first, needs_fresh_process=True)), Spawn(1)]
    (second,) = driver.handle(WorkerUp(1, now=2.0))
    assert second.assignment.n_halved == 1
    driver.handle(lost(1, out_of_memory=True))
    (third,) = driver.handle(WorkerUp(2, now=3.0))
    assert third.assignment.n_halved == 2


def test_where_nothing_works_the_run_stops():
    driver = driver_of(10, n_actors=1, max_attempts=1)
    (attempt,) = begin(driver, 1)
    for n_given_up in range(1, HOPELESS_AFTER + 1):
        actions = driver.handle(ShardFailed(0, error_of(attempt), now=1.0))
        assert isinstance(actions[0], Quarantine)
        assert isinstance(actions[1], GiveUp) == (n_given_up == HOPELESS_AFTER)
        attempt = actions[-1]
    assert "the first 3 shards failed 1 times each" in str(actions[1].error)


def test_failed_starts_have_a_budget_and_those_that_came_up_go_on_without_the_others():
    driver = driver_of(5, n_actors=2, max_load_failures=2)
    driver.handle(Tick(2, now=0.0))
    driver.handle(WorkerUp(0, now=0.0))
    assert driver.handle(LoadFailed(1, "no", now=1.0)) == [Fence(1), Spawn(2)]
    assert driver.handle(LoadFailed(2, "no", now=2.0)) == [Fence(2)]
    assert driver.handle(Tick(2, now=3.0)) == []
    assert driver.handle(lost(0, now=4.0))[-1] == Spawn(3)
    assert len(driver.handle(WorkerUp(3, now=5.0))) == 2, "work for it, and another try for the second"


def test_starts_that_always_fail_end_the_run():
    driver = driver_of(5, n_actors=1, max_load_failures=2)
    driver.handle(Tick(2, now=0.0))
    driver.handle(LoadFailed(0, "no", now=1.0))
    fenced, stop = driver.handle(LoadFailed(1, "the last word", now=1.0))
    assert fenced == Fence(1)
    assert "2 failed starts, the last with: the last word" in str(stop.error)


@pytest.mark.parametrize("clock", [[0, 29.9, 30], [0, 40, 20]])
def test_too_little_room_is_refused_after_a_while_and_at_once_where_no_machine_can_join(clock):
    waiting = driver_of(5, n_actors=4, min_actors=3, node_wait_s=30)
    refusals = [RefuseDemand(3) in waiting.handle(Tick(2, now=float(now))) for now in clock]
    assert refusals == [False, clock[1] >= 30, True]
    assert RefuseDemand(3) in driver_of(5, n_actors=4, min_actors=3).handle(Tick(2, now=0.0, can_grow=False))
    assert RefuseDemand(3) not in driver_of(2, n_actors=4, min_actors=3).handle(Tick(2, now=0.0, can_grow=False))


def test_room_that_comes_back_in_time_is_room():
    driver = driver_of(5, n_actors=4, min_actors=3, node_wait_s=30)
    for now, n_room in ((0, 2), (20, 3), (40, 2), (69, 2)):
        assert RefuseDemand(3) not in driver.handle(Tick(n_room, now=float(now)))
    assert RefuseDemand(3) in driver.handle(Tick(2, now=70.0))


def late_driver() -> tuple[Driver, Assign, Assign]:
    """Three quick shards, a slow one, and what a worker that has nothing else to do gets: the slow one again."""
    driver = driver_of(4, n_actors=2)
    slow, quick = begin(driver, 2)
    for now in (1.0, 2.0, 3.0):
        _, *rest = driver.handle(ShardTraced(1, receipt_of(quick), now=now))
        quick = rest[0] if rest else quick
    assert driver.handle(Tick(2, now=50.0)) == []
    (again,) = driver.handle(Tick(2, now=100.0))
    assert (again.worker, again.assignment.shard, again.assignment.attempt) == (1, slow.assignment.shard, 1)
    assert driver.handle(Tick(2, now=1000.0)) == []
    return driver, slow, again


def test_of_two_attempts_at_a_straggler_the_first_receipt_wins_and_the_other_worker_is_fenced():
    for slow_wins in (True, False):
        driver, slow, again = late_driver()
        winner, loser = (slow, again) if slow_wins else (again, slow)
        actions = driver.handle(ShardTraced(winner.worker, receipt_of(winner), now=1001.0))
        assert actions == [Commit(receipt_of(winner)), Fence(loser.worker)]
        assert driver.is_done
        assert driver.handle(ShardTraced(loser.worker, receipt_of(loser), now=1002.0)) == []


def test_a_second_attempt_that_fails_changes_nothing_and_is_made_a_bounded_number_of_times():
    driver, slow, again = late_driver()
    for n_made in range(1, MAX_REISSUES + 1):
        told, *rest = driver.handle(ShardFailed(again.worker, error_of(again), now=1000.0 + n_made))
        assert told == Retried(error_of(again))
        assert len(rest) == (n_made < MAX_REISSUES)
        again = rest[0] if rest else again
    assert not driver.is_done
    assert driver.handle(ShardTraced(slow.worker, receipt_of(slow), now=2000.0)) == [Commit(receipt_of(slow))]
