"""The lock of an object store: a lease, an object that its holder renews and that another takes over once it is silent.

No clock is compared with another one: whoever waits looks at the object until it has not changed for as long as its
holder said that it may, by its own clock; the holder counts by its own too. Every change is conditional on the version
seen before, so of several that take over one succeeds. A holder that was suspended for too long finds out before it
writes again (`confirm`); the receipts of a run are made only where they are absent, so what it wrote in that very
moment cannot be mixed with its successor's. Other files have no such condition: tables that are still on their way in
that moment may replace a successor's, and are made anew by the next `tracer aggregate`, which sees what they are of.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tracer.errors import RunError
from tracer.storage.file_lock import held_by_another
from tracer.storage.objects import ObjectClient, create_settled, replace_settled
from tracer.storage.store import LOCK_NAME, Say

logger = logging.getLogger(__name__)

N_BEATS = 4
"""Renewals within the time that a holder may be silent."""

N_LOOKS = 20
"""Looks of one that waits, within the same time."""


class Lease:
    """As `Lock`, on the object `.lock` below the client's root.

    Args:
        client: conditional writes.
        reference: URI of the root, for messages.
        lease_s: how long its holder may be silent before another one may take over, seconds.
        clock: this process's clock, seconds; never compared with another process's.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        client: ObjectClient,
        reference: str,
        *,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._where, self._lease_s = client, f"{reference}/{LOCK_NAME}", lease_s
        self._clock, self._pause = clock, pause
        self._mutex, self._ended = threading.Lock(), threading.Event()
        self._state: dict[str, object] = {}
        self._version: str | None = None
        self._renewed_at = 0.0

    @contextmanager
    def held(self, say: Say) -> Iterator[int]:
        """As `Lock.held`; waits where the last holder fell silent without letting go."""
        session = self._take(say)
        self._ended.clear()
        beats = threading.Thread(target=self._beat, name="lease", daemon=True)
        beats.start()
        try:
            yield session
        finally:
            self._ended.set()
            beats.join()
            self._let_go()

    def holder(self) -> str | None:
        """As `Lock.holder`; where its last renewal seems long ago, by clocks that may differ, waits for another."""
        found = self._client.read(LOCK_NAME)
        if found is None or not _is_held(found[0]):
            return None
        state = _read(found[0])
        if abs(time.time() - state["renewed_at"]) < state["lease_s"]:
            return _words(found[0])
        found_later = self._after_silence(found, state["lease_s"] / 2)
        return None if found_later in {None, found} or not _is_held(found_later[0]) else _words(found_later[0])

    def remove(self) -> None:
        """As `Lock.remove`; what another process holds by now stays."""
        self._renew()
        if self._version is not None:
            self._client.remove(LOCK_NAME)
            self._version = None

    def confirm(self) -> None:
        """Make sure that what is written now is still this holder's to write; without meaning where it is not held.

        Raises:
            RunError: another process has taken over.
        """
        if not self._state:
            return
        if self._version is not None and self._clock() - self._renewed_at > self._lease_s / 2:
            self._renew()
        if self._version is None:
            raise RunError(
                self._where, found="that this driver was silent for too long and another one took its place",
                expected="one driver per run", to_do="Let the other one go on.",
            )  # fmt: skip

    def _take(self, say: Say) -> int:
        asked_at = self._clock()
        found = self._client.read(LOCK_NAME)
        if found is not None and _is_held(found[0]):
            lease_s = _read(found[0])["lease_s"]
            say(f"waiting up to {lease_s:g} s: {_words(found[0])} may still drive this run")
            found_later = self._after_silence(found, lease_s)
            if found_later is not None and _is_held(found_later[0]) and found_later != found:
                raise held_by_another(self._where, _words(found_later[0]))
            found, asked_at = found_later, self._clock()
        session = 0 if found is None else int(_read(found[0]).get("session", -1)) + 1
        self._state = {
            "session": session, "pid": os.getpid(), "host": socket.gethostname(), "lease_s": self._lease_s,
            "token": uuid.uuid4().hex, "beat": 0,
        }  # fmt: skip
        content = _content(self._state)
        if found is None:
            self._version = create_settled(self._client, LOCK_NAME, content)
        else:
            self._version = replace_settled(self._client, LOCK_NAME, content, found[1])
        if self._version is None:
            self._state = {}
            raise held_by_another(self._where, "one that started at the same moment")
        self._renewed_at = asked_at
        if self._client.create(LOCK_NAME, content) is not None:
            raise RunError(
                self._where, found="storage that replaces an object although it was told not to",
                expected="storage with conditional writes", to_do="Choose another --out: here two drivers could meet.",
            )  # fmt: skip
        return session

    def _after_silence(self, found: tuple[bytes, str], silent_s: float) -> tuple[bytes, str] | None:
        """The object as soon as it changes, or as it was after so many seconds without a change."""
        until = self._clock() + silent_s
        while self._clock() < until:
            self._pause(silent_s / N_LOOKS)
            found_later = self._client.read(LOCK_NAME)
            if found_later is None or found_later[1] != found[1]:
                return found_later
        return found

    def _beat(self) -> None:
        while not self._ended.wait(self._lease_s / N_BEATS) and self._version is not None:
            try:
                self._renew()
            except Exception as error:  # noqa: BLE001  tried again at the next beat; before a write, `confirm` insists
                logger.warning("%s: not renewed: %s", self._where, error)

    def _renew(self) -> None:
        with self._mutex:
            if self._version is None:
                return
            self._state["beat"] = int(str(self._state["beat"])) + 1
            asked_at, content = self._clock(), _content(self._state)
            version = replace_settled(self._client, LOCK_NAME, content, self._version)
            if version is None:
                # An earlier renewal may have been done although nothing was ever heard of it.
                found = self._client.read(LOCK_NAME)
                if found is not None and _read(found[0]).get("token") == self._state["token"]:
                    version = replace_settled(self._client, LOCK_NAME, content, found[1])
            self._version, self._renewed_at = version, asked_at

    def _let_go(self) -> None:
        """Keep the count of sessions, and say that nobody holds it."""
        state, self._state = self._state, {}
        if self._version is not None:
            released = json.dumps({"session": state["session"], "released_by": state["token"]}).encode()
            with suppress(RunError):  # the next driver then waits a lease for it
                replace_settled(self._client, LOCK_NAME, released, self._version)
            self._version = None


def _content(state: dict[str, object]) -> bytes:
    return json.dumps({**state, "renewed_at": time.time()}).encode()


def _read(content: bytes) -> dict[str, Any]:
    """What the object says; of one that somebody wrote by hand, nothing."""
    try:
        state = json.loads(content)
    except ValueError:
        return {}
    return state if isinstance(state, dict) else {}


def _is_held(content: bytes) -> bool:
    return {"token", "lease_s", "renewed_at"} <= _read(content).keys()


def _words(content: bytes) -> str:
    state = _read(content)
    return f"process {state['pid']} on {state['host']}" if "pid" in state else "a process that is just ending"
