"""What a person sees of long work: a live line in a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tracer.run.ledger import Receipt

PLAIN_EVERY_S = 10.0


class LiveLine:
    """A line about work under way: kept as it is now in a terminal, printed now and then elsewhere.

    Args:
        console: where it is shown.
        line: gives what it says now.
    """

    def __init__(self, console: Console, line: Callable[[], Text]) -> None:
        self._console, self._line = console, line
        self._shown = time.monotonic()
        self._live = Live(get_renderable=line, console=console, refresh_per_second=2, transient=True)

    def start(self) -> None:
        """Show it from now on."""
        if self._console.is_terminal:
            self._live.start()

    def stop(self) -> None:
        """Take it away."""
        if self._console.is_terminal:
            self._live.stop()

    def changed(self) -> None:
        """There is something new to say."""
        now = time.monotonic()
        if not self._console.is_terminal and now - self._shown >= PLAIN_EVERY_S:
            self._shown = now
            self._console.print(self._line(), soft_wrap=True)


class TraceProgress:
    """Counts shards, prompts (or whatever the `unit` is) and failures; `n_shards_done` and `n_failures` are what a
    resume starts from.
    """

    def __init__(
        self,
        console: Console,
        *,
        n_shards: int,
        n_prompts_left: int,
        n_shards_done: int,
        n_failures: int,
        unit: str = "prompts",
    ) -> None:
        self._console, self._unit = console, unit
        self._n_shards, self._n_shards_done = n_shards, n_shards_done
        self._n_prompts, self._n_prompts_left = 0, n_prompts_left
        self._n_failures, self._n_workers = n_failures, 0
        self._started = time.monotonic()
        self._live = LiveLine(console, self._line)

    def __enter__(self) -> "TraceProgress":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._console.print(self._line())

    def worker_started(self, facts: dict) -> None:
        """A worker has loaded its model; the clock of the rate starts with the first."""
        if self._n_workers == 0:
            self._started = time.monotonic()
            if facts.get("complaint"):
                self._console.print(facts["complaint"], style="yellow", highlight=False)
        self._n_workers += 1
        process = f", process {facts['pid']}" if "pid" in facts else ""
        self._console.print(
            f"worker {self._n_workers} ready on {facts['device']}{process}", style="dim", highlight=False
        )

    def committed(self, receipt: Receipt) -> None:
        """A shard is done."""
        self._n_shards_done += 1
        self._n_failures += receipt.n_failures
        self._n_prompts += receipt.n_prompts
        self._n_prompts_left -= receipt.n_prompts
        self._live.changed()

    def gave_up(self, n_prompts: int) -> None:
        """A shard went to quarantine: one more row of `failures`."""
        self._n_failures += 1
        self._n_prompts_left -= n_prompts

    def _line(self) -> Text:
        rate = self._n_prompts / max(time.monotonic() - self._started, 1e-9)
        left = f", {duration(self._n_prompts_left / rate)} left" if self._n_prompts and self._n_prompts_left else ""
        waiting = ", starting workers" if self._n_prompts_left else ""
        speed = f", {rate:.1f} {self._unit}/s" if self._n_prompts else waiting
        return Text(f"shards {self._n_shards_done}/{self._n_shards}{speed}{left}, failures {self._n_failures}")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s" if minutes else f"{seconds}s"


@contextmanager
def telling(console: Console, stage: str) -> Iterator[Callable[[str], None]]:
    """Gives what is called with each step of a long stage: shown in place on a terminal, else printed now and then."""
    if console.is_terminal:
        with console.status("") as status:
            yield lambda step: status.update(f"[dim]{stage}: {step}[/dim]")
        return
    shown = time.monotonic()

    def say(step: str) -> None:
        nonlocal shown
        if time.monotonic() - shown >= PLAIN_EVERY_S:
            shown = time.monotonic()
            console.print(f"{stage}: {step}", style="dim", markup=False, highlight=False)

    yield say
