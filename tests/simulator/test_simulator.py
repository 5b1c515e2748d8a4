"""Seeded histories of a cluster that crashes, stalls, lies about time and repeats itself: no promise is ever broken."""

import logging
from collections import Counter

import pytest

from tests.simulator.actors import Actor
from tests.simulator.schedule import Protocol, SimulatedLedger, run_schedule
from tests.simulator.world import Violation
from tracer.run.backlog import Assignment, Backlog
from tracer.run.protocol.driver import Driver
from tracer.run.protocol.messages import Commit, Fence, WorkerLoads


@pytest.fixture(autouse=True)
def _silent(monkeypatch):
    monkeypatch.setattr(logging.getLogger("tracer.run"), "disabled", True)


N_TO_FIND = 1_000
"""Schedules within which a planted bug is found."""


def test_two_thousand_schedules_keep_every_promise():
    for seed in range(2_000):
        run_schedule(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 100_000, 10_000))
def test_a_hundred_thousand_schedules_keep_every_promise(first):
    for seed in range(first, first + 10_000):
        run_schedule(seed)


def test_the_schedules_hold_every_kind_of_trouble():
    found: Counter[str] = Counter()
    for seed in range(300):
        lines: list[str] = []
        run_schedule(seed, log=lines.append)
        history = "\n".join(lines)
        for kind in (
            "dies", "cannot be reached", "fenced speaks", "room for 0", "DriverCrash", "RefuseDemand", "given up",
            "speaks twice", "zombie writes", "n_halved=2", "clock jumps", "hangs at s", "hangs at its load",
            "the hung is fenced",
        ):  # fmt: skip
            found[kind] += kind in history
    assert min(found.values()) >= 5, found


def test_a_seed_gives_the_same_history_every_time():
    first: list[str] = []
    again: list[str] = []
    run_schedule(7, log=first.append)
    run_schedule(7, log=again.append)
    assert first == again
    assert len(first) > 10


class SpeaksEarly(Actor):
    """Hands in its receipt when the first part is written."""

    def write(self, assignment: Assignment, n_written: int) -> None:
        """As `Actor.write`, in the wrong order."""
        if n_written == 1 and self.is_alive:
            self.tell(assignment)
        super().write(assignment, n_written)


class NeverLooks(SimulatedLedger):
    """Commits whatever it is given."""

    def has_parts(self, receipt):
        """Takes the worker's word for it."""
        return True


class TrustsTheFenced(Driver):
    """Commits every receipt, whoever sends it."""

    def _take_receipt(self, event):
        known = super()._take_receipt(event)
        return known or [Commit(event.receipt)]


class ForgetsTheShardOfTheLost(Driver):
    """Fences a lost worker and leaves it at that."""

    def _replace(self, event):
        self._crew.remove(event.worker)
        return [Fence(event.worker)]


class WaitsForEver(Driver):
    """Believes that whatever takes long will end."""

    def __init__(self, backlog, runner, **more):
        super().__init__(backlog, runner.model_copy(update={"hung_after_s": float("inf")}), **more)


class WaitsForEveryLoad(Driver):
    """Does not know since when a worker loads."""

    def handle(self, event):
        """Misses one kind of event."""
        return [] if isinstance(event, WorkerLoads) else super().handle(event)


class NeverGivesUp(Backlog):
    """Tries again for ever."""

    def give_back(self, shard, error):
        """Always yes."""
        return super().give_back(shard, error) or not self._waiting.append(shard)


BUGS = {
    "commit before all tables are written": (Protocol(actor=SpeaksEarly, ledger=NeverLooks), "the receipt says"),
    "accept a fenced worker's late receipt": (Protocol(driver=TrustsTheFenced), "committed"),
    "forget the shard of a lost worker": (Protocol(driver=ForgetsTheShardOfTheLost), "is lost"),
    "number attempts alike in every session": (Protocol(n_sessions_counted=1), "the receipt says"),
    "never give a hung attempt up": (Protocol(driver=WaitsForEver), "no end"),
    "never give a hung load up": (Protocol(driver=WaitsForEveryLoad), "no end"),
    "retry without bound": (Protocol(backlog=NeverGivesUp), "no end"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_and_its_schedule_named(bug):
    protocol, complaint = BUGS[bug]
    for seed in range(N_TO_FIND):
        try:
            run_schedule(seed, protocol)
        except Violation as violation:
            assert f"python -m tests.simulator {seed}`" in str(violation)  # noqa: PT017
            if complaint in str(violation):
                return
    pytest.fail(f"not found within {N_TO_FIND} schedules")
