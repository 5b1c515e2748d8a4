"""What a person sees of labelling: step, answers, failures, what it cost so far, and how long it takes yet."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.text import Text

from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.calls import Outcome
from tracer.run.progress import LiveLine


class LabelProgress:
    """Counts the answers of each step; a live line in a terminal, a plain one now and then elsewhere."""

    def __init__(self, console: Console, answerer: Answerer) -> None:
        self._console, self._answerer = console, answerer
        self._step, self._n_calls = "labels", 0
        self._n_done = self._n_failed = self._n_known = 0
        self._started = time.monotonic()
        self._live = LiveLine(console, self._line)

    def __enter__(self) -> "LabelProgress":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_step()
        self._live.stop()

    def begin(self, step: str, n_calls: int) -> None:
        """As `tracer.autointerp.stage.Watcher.begin`."""
        self._end_step()
        self._step, self._n_calls = step, n_calls
        self._n_done = self._n_failed = self._n_known = 0
        self._started = time.monotonic()

    def answered(self, outcome: Outcome[Any]) -> None:
        """As `tracer.autointerp.stage.Watcher.answered`."""
        self._n_done += 1
        self._n_failed += not outcome.is_ok
        self._n_known += outcome.from_ledger
        self._live.changed()

    def _end_step(self) -> None:
        if self._n_done:
            self._console.print(self._line(ended=True), soft_wrap=True)

    def _line(self, *, ended: bool = False) -> Text:
        of = "" if ended else f" of at most {self._n_calls}"
        parts = [f"{self._step}: {self._n_done}{of} answers"]
        if self._n_known:
            parts.append(f"{self._n_known} known before")
        if self._n_failed:
            parts.append(f"{self._n_failed} failed")
        spent = self._answerer.spent()
        parts.append(f"{spent.usage.prompt_tokens + spent.usage.completion_tokens} tokens")
        if not spent.n_unpriced:
            parts.append(f"{spent.cost_usd:.4f} USD spent")
        n_asked = self._n_done - self._n_known
        if not ended and n_asked:
            left_s = (time.monotonic() - self._started) / n_asked * max(0, self._n_calls - self._n_done)
            parts.append(f"at most {left_s / 60:.1f} min left")
        return Text(", ".join(parts))
