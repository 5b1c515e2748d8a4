"""Answers calls through the ledger: what is in it is not asked again, what is asked is in it before it is used."""

import asyncio
import queue
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

from tracer.autointerp.client.asking import Asker, Book
from tracer.autointerp.client.batches import BatchLane
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.client.endpoint import Endpoint, find_place
from tracer.autointerp.client.ledger import LedgerWriter, read_brief
from tracer.autointerp.client.questions import Question, usage_in
from tracer.autointerp.client.spending import Accounts, Budget, Spent
from tracer.config.autointerp import ClientConfig
from tracer.storage.store import Store

FOLDER = "autointerp"
"""Of a run, in which its ledger lies."""


class _Answered(NamedTuple):
    call: Call[Any]
    outcome: Outcome[Any] | None
    error: BaseException | None


class Answerer:
    """Answers calls, many at a time, for code that is not asynchronous. Use it as a context manager.

    Its event loop runs in a thread of its own; one answerer uses a ledger at a time.

    Args:
        settings: the endpoint, prices and bounds.
        store: where the ledger lies.
        folder: the ledger's folder in it.

    Raises:
        ConfigError: no model or key, or a bound in dollars without a price.
        ArtifactError: the ledger is damaged.
    """

    def __init__(self, settings: ClientConfig, store: Store, folder: str = FOLDER) -> None:
        self.settings, self.place = settings, find_place(settings)
        accounts, rows = Accounts(), read_brief(store, folder)
        for row in rows:
            accounts.add(row.stage, usage_in(row), row.cost_usd, is_first=row.is_first, is_new=False)
        self._budget = Budget(settings, accounts.spent().cost_usd)
        self._budget.check(self.place.model)
        self._writer = LedgerWriter(store, folder)
        index = {row.request_hash: row for row in rows}
        self._book = Book(index, self._writer, self._budget, accounts, frozenset(settings.retried_failures))
        self._n_calls = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="answerer", daemon=True)
        self._thread.start()
        try:
            self._endpoint, self._asker = self._run(self._opened())
            self._lane = BatchLane(settings, self._endpoint, self._asker, self._book, store, folder)
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> "Answerer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, calls: Iterable[Call[Any]]) -> Iterator[tuple[Call[Any], Outcome[Any]]]:
        """Each call with its outcome, in order of completion; `calls` is read as answers come, in this thread.

        By the batch lane, `calls` is read to its end first; what the batches left open is asked call by call.

        Raises:
            RunError: no call can succeed: the key is wrong, the account is empty, the endpoint does not answer.
            ConfigError: a call's model has no price, and there is a bound in dollars.
            OSError: the ledger cannot be written.
        """
        if self.settings.lane == "batch":
            calls = list(calls)
            self._run(self._lane.fill(calls))
        answered: queue.SimpleQueue[_Answered] = queue.SimpleQueue()
        tasks: set[asyncio.Task[None]] = set()
        coming, n_waiting, most_waiting = iter(calls), 0, 2 * self.settings.max_concurrency
        is_read = False
        try:
            while True:
                while not is_read and n_waiting < most_waiting:
                    call = next(coming, None)
                    if call is None:
                        is_read = True
                        break
                    self._budget.check(call.model or self.place.model)
                    self._loop.call_soon_threadsafe(self._start, call, self._n_calls, answered, tasks)
                    self._n_calls += 1
                    n_waiting += 1
                if not n_waiting:
                    return
                call, outcome, error = answered.get()
                n_waiting -= 1
                if error is not None:
                    raise error
                assert outcome is not None
                yield call, outcome
        finally:
            if n_waiting:
                self._run(_cancelled(tasks))

    def is_settled(self, call: Call[Any]) -> bool:
        """Whether the ledger has the first answer to a call, or a failure that is not asked again."""
        return self._book.settled(Question.of(call, self.place).hash) is not None

    def spent(self, stage: str | None = None, *, this_session: bool = False) -> Spent:
        """Tokens and dollars of a stage or of all; of the whole ledger, or since this answerer was made."""
        return self._book.accounts.spent(stage, this_session=this_session)

    @property
    def concurrency(self) -> tuple[int, int]:
        """Requests in flight now, and how many there may be."""
        return self._asker.limit.in_flight, int(self._asker.limit.limit)

    def close(self) -> None:
        """End what is in flight and close the ledger; answers that came are in it."""
        if self._thread.is_alive():
            self._run(self._ended())
            self._stop()

    def _start(
        self, call: Call[Any], age: int, answered: queue.SimpleQueue[_Answered], tasks: set[asyncio.Task[None]]
    ) -> None:
        async def settle() -> None:
            try:
                answered.put(_Answered(call, await self._asker.outcome(call, age), None))
            except Exception as error:  # noqa: BLE001  raised where the answers are read
                answered.put(_Answered(call, None, error))

        task = self._loop.create_task(settle())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _opened(self) -> tuple[Endpoint, Asker]:
        endpoint = Endpoint(self.settings, self.place)
        return endpoint, Asker(self.settings, endpoint, self._book)

    async def _ended(self) -> None:
        for probe in self._asker.probes.values():
            probe.cancel()
        # what is left now are answers on their way into the ledger
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        await self._endpoint.close()

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._writer.close()
        self._loop.close()


async def _cancelled(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    waiting = set(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
