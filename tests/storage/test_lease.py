"""The lease: one holder at a time whatever falls silent, is suspended, or answers twice; no clock is compared."""

import itertools
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.errors import RunError
from tracer.storage.lease import Lease
from tracer.storage.objects import create_settled, replace_settled
from tracer.storage.store import LOCK_NAME

LEASE_S = 60.0


class Memory:
    """An `ObjectClient` over a dictionary; the answers numbered in `lost` never arrive, so that the client's retry
    finds its own work done.
    """

    def __init__(self, lost: frozenset[int] = frozenset()) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self._versions, self._n_writes, self._lost = itertools.count(), itertools.count(), lost
        self._mutex = threading.Lock()
        self.answers = True

    def read(self, name):
        self._ask()
        return self.objects.get(name)

    def version(self, name):
        found = self.read(name)
        return None if found is None else found[1]

    def create(self, name, content):
        return self._write(name, content, None)

    def replace(self, name, content, version):
        return self._write(name, content, version)

    def remove(self, name):
        self._ask()
        self.objects.pop(name, None)

    def _write(self, name, content, expected):
        self._ask()
        with self._mutex:
            if (self.objects[name][1] if name in self.objects else None) != expected:
                return None
            self.objects[name] = (content, f"v{next(self._versions)}")
            return None if next(self._n_writes) in self._lost else self.objects[name][1]

    def _ask(self):
        if not self.answers:
            raise RunError("memory", found="no answer", expected="one", to_do="Wait.")


class Clock:
    """A clock that goes on only while somebody waits by it."""

    def __init__(self, start: float = 0.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def lease(client, clock, **settings):
    return Lease(client, "s3://bucket/run", lease_s=LEASE_S, clock=clock, pause=clock.pause, **settings)


def quiet(_words):
    pass


def test_a_released_lease_is_taken_at_once_and_sessions_are_counted():
    client, clock = Memory(), Clock()
    for session in range(3):
        with lease(client, clock).held(quiet) as found:
            assert found == session
    assert clock.now == 0.0


def test_a_silent_holder_is_waited_for_and_then_replaced():
    client, clock, said = Memory(), Clock(), []
    dead = lease(client, Clock(1e6))
    dead._take(quiet)
    with lease(client, clock).held(said.append) as session:
        assert session == 1
    assert clock.now >= LEASE_S
    assert "may still drive this run" in said[0]


def test_a_holder_at_work_is_not_replaced():
    client, ours = Memory(), Clock()
    other = lease(client, Clock(-1e6))
    other._take(quiet)

    def pause(seconds):
        ours.pause(seconds)
        if ours.now > LEASE_S / 2:
            other._renew()

    mine = Lease(client, "s3://bucket/run", lease_s=LEASE_S, clock=ours, pause=pause)
    with (
        pytest.raises(RunError, match=r"s3://bucket/run/\.lock: found another driver of this run: process"),
        mine.held(quiet),
    ):
        pass
    assert ours.now < LEASE_S
    other.confirm()


def test_a_holder_that_was_suspended_for_too_long_may_not_write_any_more():
    client, slow, clock = Memory(), Clock(), Clock()
    suspended = lease(client, slow)
    suspended._take(quiet)
    slow.now += LEASE_S / 3
    suspended.confirm()
    with lease(client, clock).held(quiet):
        slow.now += 10 * LEASE_S
        with pytest.raises(RunError, match="another one took its place"):
            suspended.confirm()
        suspended._let_go()
        assert json.loads(client.objects[LOCK_NAME][0])["session"] == 1
        assert lease(client, clock).holder() is not None


def test_a_holder_that_was_suspended_but_not_replaced_goes_on():
    client, slow = Memory(), Clock()
    suspended = lease(client, slow)
    suspended._take(quiet)
    slow.now += 10 * LEASE_S
    suspended.confirm()
    slow.now += LEASE_S / 3
    suspended.confirm()


def test_a_renewal_of_which_nothing_was_ever_heard_is_no_loss(monkeypatch):
    client, clock = Memory(), Clock()
    held = lease(client, clock)
    held._take(quiet)
    replace = client.replace

    def done_but_never_answered(*arguments):
        replace(*arguments)
        raise RunError("memory", found="no answer", expected="one", to_do="Wait.")

    with monkeypatch.context() as patched:
        patched.setattr(client, "replace", done_but_never_answered)
        with pytest.raises(RunError, match="no answer"):
            held._renew()
    clock.now += LEASE_S
    held.confirm()
    assert json.loads(client.objects[LOCK_NAME][0])["beat"] == 2


def test_storage_that_does_not_answer_in_time_stops_the_holder_before_it_writes():
    client, clock = Memory(), Clock()
    held = lease(client, clock)
    held._take(quiet)
    client.answers = False
    held.confirm()
    clock.now += LEASE_S
    with pytest.raises(RunError, match="no answer"):
        held.confirm()


@given(lost=st.sets(st.integers(0, 12)))
def test_answers_that_were_lost_count(lost):
    client, clock = Memory(frozenset(lost)), Clock()
    for session in range(3):
        held = lease(client, clock)
        with held.held(quiet) as found:
            assert found == session
            held._renew()
            held.confirm()
    assert create_settled(client, "a", b"mine")
    assert create_settled(client, "a", b"other") is None
    assert replace_settled(client, "a", b"new", client.version("a"))
    assert replace_settled(client, "a", b"newer", "v-none") is None


@settings(max_examples=30)
@given(n=st.integers(2, 6), left=st.sampled_from(["nothing", "released", "silent"]))
def test_several_that_come_at_the_same_time_never_get_the_same_session(n, left):
    client = Memory()
    if left == "released":
        with lease(client, Clock()).held(quiet):
            pass
    elif left == "silent":
        lease(client, Clock())._take(quiet)
    together, outcomes = threading.Barrier(n), []

    def come():
        mine = lease(client, Clock())
        together.wait()
        try:
            outcomes.append(mine._take(quiet))
        except RunError:
            outcomes.append(None)

    threads = [threading.Thread(target=come) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == n
    # Those who came second waited in no time, and may have taken over in their turn.
    sessions, first = sorted(outcome for outcome in outcomes if outcome is not None), int(left != "nothing")
    assert sessions == list(range(first, first + len(sessions)))
    assert json.loads(client.objects[LOCK_NAME][0])["session"] == sessions[-1]


def test_who_holds_it_is_told_at_once_and_by_waiting_where_clocks_differ(monkeypatch):
    client, clock = Memory(), Clock()
    holder = lease(client, Clock())
    holder._take(quiet)
    asking = lease(client, clock)
    assert "process" in asking.holder()
    assert clock.now == 0.0
    monkeypatch.setattr("tracer.storage.lease.time.time", lambda: 1e12)
    assert asking.holder() is None
    assert clock.now >= LEASE_S / 2


def test_storage_that_ignores_conditions_is_refused():
    class Careless(Memory):
        def _write(self, name, content, expected):
            self.objects.pop(name, None)
            return super()._write(name, content, None)

    with (
        pytest.raises(RunError, match="expected storage with conditional writes"),
        lease(Careless(), Clock()).held(quiet),
    ):
        pass


def test_a_holder_that_was_replaced_does_not_remove_its_successors_lease():
    client, slow = Memory(), Clock()
    suspended = lease(client, slow)
    suspended._take(quiet)
    with lease(client, Clock()).held(quiet) as session:
        suspended.remove()
        assert json.loads(client.objects[LOCK_NAME][0])["session"] == session == 1


def test_the_heart_goes_on_beating_whatever_goes_wrong_once(monkeypatch):
    client, beaten = Memory(), threading.Event()
    mine = Lease(client, "s3://bucket/run", lease_s=0.04)
    renew, errors = mine._renew, iter([ValueError("odd"), RunError("x", found="x", expected="y", to_do="Z.")])

    def fail_twice():
        for error in errors:
            raise error
        renew()
        beaten.set()

    monkeypatch.setattr(mine, "_renew", fail_twice)
    with mine.held(quiet):
        assert beaten.wait(10)


def test_an_object_that_somebody_wrote_by_hand_is_nobodys_lease():
    client = Memory()
    for content in (b"", b"{", b"[1]", b'{"pid": 1}'):
        client.objects[LOCK_NAME] = (content, f"v {content!r}")
        assert lease(client, Clock()).holder() is None
        with lease(client, Clock()).held(quiet) as session:
            assert session == 0


def test_a_removed_lease_leaves_nothing():
    client, clock = Memory(), Clock()
    held = lease(client, clock)
    with held.held(quiet):
        held.remove()
    assert client.objects == {}
