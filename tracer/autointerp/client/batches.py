"""The batch lane: many requests in one uploaded file, answered within a day for less, put into the ledger when done.

Behind `submit`, `poll` and `collect`; `custom_id` is a request's hash. Every batch has a note beside the ledger, from
before it is made until its results are in the ledger. A batch carries the key of its note, so that one made just before
a process was killed is found at the endpoint, and not made again.
"""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from tracer.autointerp.client.asking import Asker, Book
from tracer.autointerp.client.batch_files import Batch, BatchFiles, Notes
from tracer.autointerp.client.calls import Call, Usage
from tracer.autointerp.client.endpoint import Endpoint, RequestError, class_of
from tracer.autointerp.client.ledger import LedgerRow
from tracer.autointerp.client.questions import Question, Sending, answered_row, failed_row
from tracer.config.autointerp import AnswerMode, ClientConfig
from tracer.errors import RunError
from tracer.storage.store import Store

NOTES_FOLDER = "batches"
DONE = frozenset({"completed", "expired", "cancelled"})


class Asked(NamedTuple):
    """A question and how its form is asked for."""

    question: Question
    mode: AnswerMode | None


class BatchLane:
    """Fills the ledger by batches; used in the event loop of its asker.

    Args:
        settings: sizes and pauses.
        endpoint: who is asked.
        asker: knows how forms are asked for.
        book: the ledger.
        store: where notes lie.
        folder: the ledger's folder in it.
    """

    def __init__(
        self, settings: ClientConfig, endpoint: Endpoint, asker: Asker, book: Book, store: Store, folder: str
    ) -> None:
        self._settings, self._endpoint, self._asker, self._book = settings, endpoint, asker, book
        self._notes = Notes(store, f"{folder}/{NOTES_FOLDER}")
        is_azure = settings.azure is not None
        self._files = BatchFiles(endpoint, is_azure=is_azure, timeout_s=settings.timeout_s)
        for note in self._notes.read():
            self._hold(note)

    async def fill(self, calls: Iterable[Call[Any]]) -> None:
        """Ask by batches what the ledger lacks, as far as money goes; returns when all batches are collected.

        Raises:
            RunError: the endpoint refuses a batch, or does not answer.
            ConfigError: a model has no price, and there is a bound in dollars.
        """
        asked = await self._unsettled(calls)
        notes = (note for note in self._notes.read() if not asked.keys().isdisjoint(note.hashes))
        waiting = [batch for note in notes if (batch := await self._adopted(note)) is not None]
        under_way = {request_hash for batch in waiting for request_hash in batch.hashes}
        open_ones = [item for request_hash, item in asked.items() if request_hash not in under_way]
        for model, group in _groups(open_ones, self._settings.batch_size):
            self._book.budget.check(model)
            worst = [self._book.worst(item.question) for item in group]
            n_affordable = self._book.budget.n_affordable(model, worst, by_batch=True)
            if n_affordable:
                waiting.append(await self.submit(group[:n_affordable]))
        while waiting:
            states = [(batch, await self.poll(batch)) for batch in waiting]
            for batch, state in states:
                if state["status"] in DONE:
                    await self.collect(batch, state, asked)
            waiting = [batch for batch, state in states if state["status"] not in DONE]
            if waiting:
                await asyncio.sleep(self._settings.batch_poll_s)

    async def submit(self, group: list[Asked]) -> Batch:
        """Make a batch of questions for one model.

        Raises:
            RunError: the endpoint refuses it, or does not answer.
        """
        hashes = tuple(item.question.hash for item in group)
        attempts = [(request_hash, self._book.next_attempt(request_hash)) for request_hash in hashes]
        key = hashlib.sha256(json.dumps(attempts).encode()).hexdigest()[:32]
        worst = [self._book.worst(item.question) for item in group]
        tokens = tuple((usage.prompt_tokens, usage.completion_tokens) for usage in worst)
        batch = Batch(key=key, hashes=hashes, model=group[0].question.model, worst=tokens)
        self._hold(batch)
        self._notes.write(batch)
        bodies = {question.hash: self._asker.manner.body(question, mode) for question, mode in group}
        batch = replace(batch, batch_id=await self._files.make(key, bodies))
        self._notes.write(batch)
        return batch

    async def poll(self, batch: Batch) -> dict[str, Any]:
        """The state of a batch, as the endpoint tells it.

        Raises:
            RunError: the batch failed as a whole, or the endpoint does not answer.
        """
        assert batch.batch_id is not None
        state = await self._files.state(batch.batch_id)
        if state["status"] == "failed":
            self._forget(batch)
            found = self._endpoint.scrubbed(f"batch {batch.batch_id} failed: {state.get('errors')}")
            raise RunError(
                self._endpoint.place.url, found=found, expected="a batch that is worked off",
                to_do="Mend what it says, or leave autointerp.lane out.",
            )  # fmt: skip
        return state

    async def collect(self, batch: Batch, state: dict[str, Any], asked: dict[str, Asked]) -> int:
        """Put a finished batch's answers and failures into the ledger, those of `asked`; the number of new rows.

        Its note stays while there are others in it, for whoever asks them.
        """
        n_rows = 0
        for name in ("output_file_id", "error_file_id"):
            for item in await self._files.results(state[name]) if state.get(name) else ():
                row = self._row(item, asked)
                if row is not None:
                    await self._book.keep(row)
                    n_rows += 1
        if all(hashed in asked or self._book.settled(hashed) is not None for hashed in batch.hashes):
            self._forget(batch)
        else:
            self._hold(batch)
        return n_rows

    def _row(self, item: dict[str, Any], asked: dict[str, Asked]) -> LedgerRow | None:
        """The row of a line of results; None for what is not asked now, or is settled."""
        request_hash = item["custom_id"]
        if request_hash not in asked or self._book.settled(request_hash) is not None:
            return None
        (question, mode), response = asked[request_hash], item.get("response") or {}
        sending, attempt = Sending(mode=mode, lane="batch"), self._book.next_attempt(request_hash)
        status, body = response.get("status_code"), response.get("body") or {}
        if status == 200:
            try:
                return answered_row(question, body, sending, self._book.budget.price(question.model), attempt)
            except RequestError as malformed:
                return failed_row(question, malformed, sending, attempt)
        error = body.get("error") or item.get("error") or {}
        message = self._endpoint.scrubbed(str(error.get("message") or "no answer in the batch"))
        error_class = class_of(status or 500, str(error.get("code") or ""), message)
        return failed_row(question, RequestError(error_class, message), sending, attempt)

    async def _unsettled(self, calls: Iterable[Call[Any]]) -> dict[str, Asked]:
        asked: dict[str, Asked] = {}
        for call in calls:
            question = Question.of(call, self._endpoint.place)
            if question.hash not in asked and self._book.settled(question.hash) is None:
                asked[question.hash] = Asked(question, await self._asker.mode(call, question.model, 0))
        return asked

    async def _adopted(self, batch: Batch) -> Batch | None:
        """A batch of an earlier process, its identity found; None if it was never made."""
        if batch.batch_id is not None:
            return batch
        batch_id = await self._files.find(batch.key)
        if batch_id is None:
            self._forget(batch)
            return None
        return replace(batch, batch_id=batch_id)

    def _hold(self, batch: Batch) -> None:
        """Count what a batch may still cost: the worst of what the ledger lacks of it."""
        left = (
            Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
            for hashed, (prompt_tokens, completion_tokens) in zip(batch.hashes, batch.worst, strict=True)
            if self._book.settled(hashed) is None
        )
        self._book.budget.hold(batch.key, batch.model, left)

    def _forget(self, batch: Batch) -> None:
        self._notes.remove(batch.key)
        self._book.budget.hold(batch.key, batch.model, ())


def _groups(asked: list[Asked], size: int) -> Iterator[tuple[str, list[Asked]]]:
    """Batches of one model each, of at most `size`."""
    by_model: dict[str, list[Asked]] = {}
    for item in asked:
        by_model.setdefault(item.question.model, []).append(item)
    for model, items in by_model.items():
        for start in range(0, len(items), size):
            yield model, items[start : start + size]
