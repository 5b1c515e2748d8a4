"""A call as the ledger knows it: its row from what an endpoint said, and its outcome from its row."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from tracer.autointerp.client.calls import Call, Outcome, Status, TokenLogprob, Usage, request_hash
from tracer.autointerp.client.endpoint import Place, RequestError
from tracer.autointerp.client.forms import read_answer
from tracer.autointerp.client.ledger import LedgerRow
from tracer.autointerp.client.spending import cost_usd, usage_of
from tracer.config.autointerp import AnswerMode, PriceConfig

N_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call, or the repair of one: `request` is its canonical JSON, `repairs` the hash of what is to be mended."""

    call: Call[Any]
    place: Place
    repairs: str | None
    request: str
    hash: str

    @classmethod
    def of(cls, call: Call[Any], place: Place, repairs: str | None = None) -> "Question":
        """The question that a call puts to an endpoint."""
        request = call.request(endpoint=place.url, model=place.model)
        return cls(call=call, place=place, repairs=repairs, request=request, hash=request_hash(request))

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self.call.model or self.place.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How a question was sent: volatile, and no part of it."""

    mode: AnswerMode | None
    lane: str = "now"
    n_tries: int = 1
    latency_s: float = 0.0


def answered_row(
    question: Question, reply: dict[str, Any], sending: Sending, price: PriceConfig | None, attempt: int
) -> LedgerRow:
    """The row of a chat completion.

    Raises:
        RequestError: it is none, of class malformed.
    """
    try:
        choice, usage = reply["choices"][0], usage_of(reply)
        message, reason = choice["message"], choice.get("finish_reason")
        text, said = _clean(message.get("content") or ""), message.get("refusal")
        logprobs = (choice.get("logprobs") or {}).get("content") or []
        for item in logprobs:
            TokenLogprob.from_json(item)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RequestError("malformed", f"an answer that is no chat completion: {type(error).__name__}") from None
    status = "ok"
    if said or reason == "content_filter":
        status, said = "refused", str(said or "stopped by the endpoint's filter")
    elif reason == "length":
        status = "truncated"
    elif question.call.form is not None:
        try:
            read_answer(text, question.call.form)
        except ValueError as error:
            status, said = "parse_failed", str(error)
    return replace(
        _row(question, sending, status, attempt),
        model_returned=reply.get("model"),
        system_fingerprint=reply.get("system_fingerprint"),
        message=" ".join(_clean(said).split())[:N_MESSAGE_CHARS] if said else None,
        text=text,
        logprobs=json.dumps(logprobs) if logprobs else None,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=cost_usd(usage, price, by_batch=sending.lane == "batch"),
    )


def failed_row(question: Question, error: RequestError, sending: Sending, attempt: int) -> LedgerRow:
    """The row of a request that got no answer; one that a filter stopped counts as refused."""
    status = "refused" if error.error_class == "filtered" else "failed"
    row = _row(question, sending, status, attempt)
    return replace(row, error_class=error.error_class, message=error.message)


def outcome_of(call: Call[Any], row: LedgerRow, *, from_ledger: bool) -> Outcome[Any]:
    """What a row means for a call."""
    status: Any = row.status
    parsed, message = None, row.message or ""
    if status in ("ok", "parse_failed") and call.form is not None:
        try:
            parsed, status = read_answer(row.text or "", call.form), "ok"
        except ValueError as error:
            status, message = "parse_failed", str(error)
    items = json.loads(row.logprobs) if row.logprobs else ()
    return Outcome(
        status=status,
        request_hash=row.request_hash,
        parsed=parsed,
        text=row.text or "",
        logprobs=tuple(TokenLogprob.from_json(item) for item in items),
        usage=usage_in(row),
        cost_usd=row.cost_usd,
        error_class=row.error_class or "",
        message=message,
        model_returned=row.model_returned or "",
        from_ledger=from_ledger,
    )


def mended(first: Outcome[Any], second: Outcome[Any]) -> Outcome[Any]:
    """The outcome of a call that was repaired: the second answer, both paid for."""
    return replace(
        second,
        usage=first.usage + second.usage,
        cost_usd=_sum(outcome.cost_usd for outcome in (first, second)),
        from_ledger=first.from_ledger and second.from_ledger,
    )


def not_asked(status: Status, question: Question, message: str) -> Outcome[Any]:
    """The outcome of a call that nobody asked."""
    return Outcome(status=status, request_hash=question.hash, message=message)


def usage_in(row: LedgerRow) -> Usage:
    """The tokens of a row."""
    return Usage(
        prompt_tokens=row.prompt_tokens, cached_tokens=row.cached_tokens, completion_tokens=row.completion_tokens
    )


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: half a surrogate pair, which JSON may hold, becomes a question mark."""
    return text.encode(errors="replace").decode()


def _sum(costs: Iterable[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if known else None


def _row(question: Question, sending: Sending, status: str, attempt: int) -> LedgerRow:
    call = question.call
    return LedgerRow(
        request_hash=question.hash,
        attempt=attempt,
        stage=call.stage,
        target=call.target,
        repairs=question.repairs,
        prompt_version=call.prompt_version,
        endpoint=question.place.url,
        model=question.model,
        model_returned=None,
        system_fingerprint=None,
        request=question.request,
        status=status,
        error_class=None,
        message=None,
        text=None,
        logprobs=None,
        answer_mode=sending.mode,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        cost_usd=None,
        lane=sending.lane,
        n_tries=sending.n_tries,
        latency_s=sending.latency_s,
        created_at=datetime.now(UTC).isoformat(),
    )
