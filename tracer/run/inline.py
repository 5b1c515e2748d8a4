"""Workers without Ray: one worker in the driver's own process, for tests and for looking inside with a debugger."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from tracer.run.backlog import Backlog
from tracer.run.ledger import Receipt, ShardError
from tracer.run.work import ShardRunner


class InlineWorkers:
    """The `Workers` of one process; `on_start` is told the worker's facts once it is loaded."""

    def __init__(self, make_runner: Callable[[], ShardRunner], *, on_start: Callable[[dict], None]) -> None:
        self._make_runner, self._on_start = make_runner, on_start
        self._runner: ShardRunner | None = None

    def outcomes(self, backlog: Backlog) -> Iterator[Receipt | ShardError]:
        """One shard after the other, in the backlog's order."""
        while backlog:
            yield self._started().run_shard(backlog.take())

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`."""
        return self._started().feature_logits(features, n_tokens)

    def close(self) -> None:
        """Let the model go."""
        self._runner = None

    def _started(self) -> ShardRunner:
        if self._runner is None:
            runner = self._make_runner()
            self._on_start(runner.start())
            self._runner = runner
        return self._runner
