"""Workers without Ray: one worker in the driver's own process, for tests and for looking inside with a debugger."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from tracer.aggregate.tasks import Block, Result, Shared, in_process
from tracer.run.ledger import ShardError
from tracer.run.protocol.messages import Assign, Event, ShardFailed, ShardTraced, Spawn, Tick, WorkerAction, WorkerUp
from tracer.run.work import ShardRunner


class InlineWorkers:
    """The `Workers` of one process; `on_start` is told the worker's facts once it is loaded.

    A worker that is fenced is followed by the same one, since this process cannot be replaced.
    """

    n_blocks_at_once = 1

    def __init__(self, make_runner: Callable[[], ShardRunner], *, on_start: Callable[[dict], None]) -> None:
        self._make_runner, self._on_start = make_runner, on_start
        self._runner: ShardRunner | None = None
        self._happened: deque[Event] = deque()

    def events(self) -> list[Event]:
        """As `Workers.events`; there is room for one worker."""
        return [self._happened.popleft() if self._happened else Tick(n_room=1, now=time.monotonic(), can_grow=False)]

    def perform(self, action: WorkerAction) -> None:
        """As `Workers.perform`; an attempt ends before this returns."""
        if isinstance(action, Spawn):
            self._started()
            self._happened.append(WorkerUp(action.worker, now=time.monotonic()))
        elif isinstance(action, Assign):
            outcome = self._started().run_shard(action.assignment)
            if isinstance(outcome, ShardError):
                self._happened.append(ShardFailed(action.worker, outcome, now=time.monotonic()))
            else:
                self._happened.append(ShardTraced(action.worker, outcome, now=time.monotonic()))

    def feature_logits(self, features: list[tuple[int, int]], n_tokens: int) -> pa.Table:
        """As `Worker.feature_logits`."""
        return self._started().feature_logits(features, n_tokens)

    def weights_table(self, name: str) -> pa.Table:
        """As `FeatureWorker.weights_table`."""
        return self._started().weights_table(name)

    def do_blocks(
        self, function: Callable[[Shared, Block], Result], shared: Shared, blocks: Iterable[Block]
    ) -> Iterator[Result]:
        """As `Workers.do_blocks`, one after another."""
        return in_process(function, shared, blocks)

    def close(self) -> None:
        """Let the model go."""
        self._runner = None

    def _started(self) -> ShardRunner:
        if self._runner is None:
            runner = self._make_runner()
            self._on_start(runner.start())
            self._runner = runner
        return self._runner
