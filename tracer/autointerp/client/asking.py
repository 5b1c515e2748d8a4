"""What becomes of one call: the ledger's answer, or requests until there is one, with one repair.

A call is settled by the ledger alone: by its row and, where that is no answer in the call's form, by the row of the
repair, whose request follows from the wrong answer. So a call that was left half-way goes on where it was.
"""

import asyncio
import hashlib
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel

from tracer.autointerp.client.calls import Call, Message, Outcome, Parameters, Usage
from tracer.autointerp.client.concurrency import AdaptiveLimit
from tracer.autointerp.client.endpoint import FATAL, TRANSIENT, Endpoint, RequestError
from tracer.autointerp.client.forms import ANSWER_MODES, repair_messages
from tracer.autointerp.client.ledger import LedgerRow, LedgerWriter
from tracer.autointerp.client.manner import Manner
from tracer.autointerp.client.questions import (
    Question,
    Sending,
    answered_row,
    failed_row,
    mended,
    not_asked,
    outcome_of,
    usage_in,
)
from tracer.autointerp.client.spending import Accounts, Budget
from tracer.config.autointerp import AnswerMode, ClientConfig

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
MAX_MALFORMED = 3
"""Answers to one request that are no chat completions: they may be charged for all the same."""
MAX_FAILED_IN_A_ROW = 20
"""Calls whose time ran out, none having been answered since: the endpoint is gone."""
N_PROBES = 3
"""Answers in a mode that may be wrong before the endpoint counts as unable to."""
N_LESSONS = 3
"""Refusals of one request that may teach how to ask."""


class Probe(BaseModel):
    """The form that an endpoint is probed with."""

    ready: bool


class OverBudgetError(Exception):
    """There is no money left for a request."""


@dataclass(slots=True)
class _Clock:
    """The time that a call has, which begins with its first request."""

    seconds: float
    ends: float | None = None

    def left_s(self) -> float:
        now = asyncio.get_running_loop().time()
        if self.ends is None:
            self.ends = now + self.seconds
        return self.ends - now


class Book:
    """The ledger as calls see it while they are asked: rows by hash, what they cost, and the way to add one.

    Args:
        index: rows of the ledger by hash, without `request`.
        writer: appends to the ledger.
        budget: what may be spent.
        accounts: what is.
        retried: classes of failures that are asked again.
    """

    def __init__(
        self,
        index: dict[str, LedgerRow],
        writer: LedgerWriter,
        budget: Budget,
        accounts: Accounts,
        retried: frozenset[str],
    ) -> None:
        self.budget, self.accounts = budget, accounts
        self._index, self._writer, self._retried = index, writer, retried

    def settled(self, request_hash: str) -> LedgerRow | None:
        """The row that answers a request, or says that it cannot be answered; None if it is to be asked."""
        row = self._index.get(request_hash)
        return None if row is None or row.error_class in self._retried else row

    def next_attempt(self, request_hash: str) -> int:
        """The number of the next row of a request."""
        row = self._index.get(request_hash)
        return 0 if row is None else row.attempt + 1

    def worst(self, question: Question) -> Usage:
        """The most tokens that a question can come to."""
        call = question.call
        return self.budget.worst(question.model, len(question.request), len(call.messages), call.parameters.max_tokens)

    async def keep(self, row: LedgerRow) -> LedgerRow:
        """Put a row into the ledger; return when it is there."""
        await self._writer.append(row)
        self._index[row.request_hash] = kept = replace(row, request=None)
        usage = usage_in(row)
        self.accounts.add(row.stage, usage, row.cost_usd, is_first=row.is_first, is_new=True)
        self.budget.paid(
            row.cost_usd, model=row.model, n_bytes=len(row.request or ""), prompt_tokens=usage.prompt_tokens
        )
        return kept


class Asker:
    """Settles calls in one event loop.

    Args:
        settings: bounds of time and of requests in flight.
        endpoint: who is asked.
        book: the ledger.
    """

    def __init__(self, settings: ClientConfig, endpoint: Endpoint, book: Book) -> None:
        self.limit = AdaptiveLimit(
            start=settings.start_concurrency, most=settings.max_concurrency, cooldown_s=settings.cooldown_s
        )
        self.manner = Manner()
        self._settings, self._endpoint, self._book = settings, endpoint, book
        self._being_asked: dict[str, asyncio.Future[LedgerRow]] = {}
        self.probes: dict[str, asyncio.Future[AnswerMode]] = {}
        self._has_answered, self._n_failed_since = False, 0

    async def outcome(self, call: Call[Any], age: int) -> Outcome[Any]:
        """Settle a call; of those that wait, the lowest `age` is asked first.

        Raises:
            RunError: no call can succeed: the key is wrong, the account is empty, the endpoint does not answer.
            OSError: the ledger cannot be written.
            StorageError: likewise, in an object store.
        """
        clock = _Clock(self._settings.deadline_s)
        question = Question.of(call, self._endpoint.place)
        try:
            first = await self._settled(question, clock, age)
            if first.status != "parse_failed":
                return first
            mend = replace(call, messages=repair_messages(call.messages, first.text, first.message))
            question = Question.of(mend, self._endpoint.place, repairs=first.request_hash)
            return mended(first, await self._settled(question, clock, age))
        except OverBudgetError:
            return not_asked("over_budget", question, "max_usd is reached")

    async def mode(self, call: Call[Any], model: str, age: int) -> AnswerMode | None:
        """How a call's form is asked for: as set, or the first way that the endpoint can, probed once per model."""
        if call.form is None:
            return None
        if self._settings.answer_mode is not None:
            return self.manner.mode(call.form, model, self._settings.answer_mode)
        if model not in self.probes:
            self.probes[model] = asyncio.ensure_future(self._probed(model, age))
        return self.manner.mode(call.form, model, await asyncio.shield(self.probes[model]))

    async def _settled(self, question: Question, clock: _Clock, age: int) -> Outcome[Any]:
        is_known = self._book.settled(question.hash) is not None
        row = await self._row(question, clock, age)
        return outcome_of(question.call, row, from_ledger=is_known)

    async def _row(self, question: Question, clock: _Clock, age: int, mode: AnswerMode | None = None) -> LedgerRow:
        """The row of a question, which is asked once however many calls put it at the same time."""
        while (row := self._book.settled(question.hash)) is None:
            other = self._being_asked.get(question.hash)
            if other is not None:
                await asyncio.wait([other])
                if not other.cancelled():
                    return other.result()
                continue
            task = asyncio.ensure_future(self._asked(question, clock, age, mode))
            self._being_asked[question.hash] = task
            try:
                return await task
            finally:
                del self._being_asked[question.hash]
        return row

    async def _asked(self, question: Question, clock: _Clock, age: int, mode: AnswerMode | None) -> LedgerRow:
        """Send requests until there is an answer, time is up, or none can be had."""
        n_tries = n_malformed = 0
        while True:
            n_tries += 1
            asked_in = mode or await self.mode(question.call, question.model, age)
            sending = Sending(mode=asked_in, n_tries=n_tries)
            try:
                return await self._sent(question, clock, age, sending)
            except RequestError as error:
                failure = error
            if n_tries <= N_LESSONS and self.manner.learns(question, sending, failure, may_choose=mode is None):
                continue
            attempt = self._book.next_attempt(question.hash)
            row = failed_row(question, failure, sending, attempt)
            if failure.error_class == "malformed":
                n_malformed += 1
                row = await self._book.keep(row)
            pause_s = _pause_s(question.hash, n_tries, failure)
            if failure.error_class in TRANSIENT and clock.left_s() > pause_s and n_malformed < MAX_MALFORMED:
                await asyncio.sleep(pause_s)
                continue
            if self._is_hopeless(failure):
                raise self._endpoint.fatal(failure)
            return row if failure.error_class == "malformed" else await self._book.keep(row)

    def _is_hopeless(self, failure: RequestError) -> bool:
        """Whether a call that failed for good says that no other can succeed."""
        if failure.error_class in FATAL or (failure.error_class == "connection" and not self._has_answered):
            return True
        self._n_failed_since += failure.error_class in TRANSIENT
        return self._n_failed_since > MAX_FAILED_IN_A_ROW

    async def _sent(self, question: Question, clock: _Clock, age: int, sending: Sending) -> LedgerRow:
        """Send one request, and put its answer into the ledger."""
        budget, loop = self._book.budget, asyncio.get_running_loop()
        async with self.limit.slot(age):
            timeout_s = min(self._settings.timeout_s, clock.left_s())
            if timeout_s <= 0:
                raise RequestError("timeout", f"no answer in {self._settings.deadline_s:.0f} s")
            async with budget.reserved(question.model, self._book.worst(question)) as fits:
                if not fits:
                    raise OverBudgetError
                begun, body = loop.time(), self.manner.body(question, sending.mode)
                try:
                    reply = await self._endpoint.ask(body, request_hash=question.hash, timeout_s=timeout_s)
                except RequestError as error:
                    if error.error_class == "rate_limit":
                        self.limit.refused(error.retry_after_s, sent_at=begun)
                    raise
                sending = replace(sending, latency_s=loop.time() - begun)
                self.limit.answered(sending.latency_s)
                self._has_answered, self._n_failed_since = True, 0
                attempt, price = self._book.next_attempt(question.hash), budget.price(question.model)
                # paid for: it goes into the ledger even if nobody waits for it any more
                row = answered_row(question, reply, sending, price, attempt)
                return await asyncio.shield(self._book.keep(row))

    async def _probed(self, model: str, age: int) -> AnswerMode:
        asked = (Message("user", 'Answer with {"ready": true} as JSON.'),)
        for mode in ANSWER_MODES[:-1]:
            for draw in range(N_PROBES):
                call = Call(
                    stage="probe", target=f"{mode}/{draw}", messages=asked, form=Probe, model=model,
                    parameters=Parameters(temperature=None, draw=draw), prompt_version=f"probe-1-{mode}",
                )  # fmt: skip
                question = Question.of(call, self._endpoint.place)
                row = await self._row(question, _Clock(self._settings.deadline_s), age, mode)
                if row.status == "ok":
                    return mode
                if row.error_class in TRANSIENT:
                    raise self._endpoint.fatal(RequestError("connection", row.message or "no answer"))
                if row.status == "failed":
                    break
        return "text"


def _pause_s(request_hash: str, n_tries: int, failure: RequestError) -> float:
    """Time before a request is tried again: as the endpoint asks, else doubling, with a jitter by the hash."""
    if failure.retry_after_s is not None:
        return failure.retry_after_s
    digest = hashlib.sha256(f"{request_hash}/{n_tries}".encode()).digest()
    jitter = 0.5 + int.from_bytes(digest[:4], "big") / 2**33
    return min(FIRST_PAUSE_S * 2 ** (n_tries - 1), LONGEST_PAUSE_S) * jitter
