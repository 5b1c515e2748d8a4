"""A headless Chromium driven over its DevTools pipe (file descriptors 3 and 4), with no package in between."""

import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Message = dict[str, Any]

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)
REPLY_TIMEOUT_S = 60.0


def find_chromium() -> str:
    """Path of an installed Chromium; its absence is an error, never a skip."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(
        "no Chromium on PATH; install it with `apt-get install chromium`, or deselect the marker `page`"
    )


class Tab:
    """One page of the browser: commands out, replies and events in."""

    def __init__(self, reader: int, writer: int) -> None:
        self._reader, self._writer = reader, writer
        self._pending, self._next_id, self._session = b"", 0, ""
        self.events: list[Message] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> Message:
        """Send a command and wait for its reply; events that come meanwhile go to `events`."""
        self._next_id += 1
        message = {"id": self._next_id, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while (reply := self._receive()).get("id") != self._next_id:
            self.events.append(reply)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def open(self, url: str, *, width: int, is_dark: bool = False) -> None:
        """Load `url` at a width in CSS pixels and wait until it is loaded and laid out."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        reply = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(f"{expression}: {reply['exceptionDetails']}")
        return reply["result"].get("value")

    def _receive(self) -> Message:
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self._reader, selectors.EVENT_READ)
            while b"\0" not in self._pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"Chromium was silent for {REPLY_TIMEOUT_S} s")
                chunk = os.read(self._reader, 1 << 20)
                if not chunk:
                    raise EOFError("Chromium closed its pipe")
                self._pending += chunk
        message, _, self._pending = self._pending.partition(b"\0")
        return json.loads(message)


@contextmanager
def open_tab() -> Iterator[Tab]:
    """Start Chromium with an empty profile, give one tab, and end it."""
    command_reader, command_writer = os.pipe()
    event_reader, event_writer = os.pipe()
    redirect = f'exec "$@" 3<&{command_reader} 4>&{event_writer}'
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            ["bash", "-c", redirect, "chromium", find_chromium(), *FLAGS, f"--user-data-dir={Path(profile)}"],
            pass_fds=(command_reader, event_writer),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command_reader)
        os.close(event_writer)
        try:
            yield Tab(event_reader, command_writer)
        finally:
            os.close(command_writer)
            os.close(event_reader)
            process.terminate()
            process.wait(timeout=30)
