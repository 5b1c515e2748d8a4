"""What calls will cost, from a sample of them that is asked first; its answers are in the ledger and paid for once."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.calls import Call, Outcome, Usage
from tracer.autointerp.client.spending import cost_usd

N_SAMPLED = 50
Z_95 = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is left to pay for calls once `n_sampled` of them were asked: `n_calls` are open, `n_known` were settled.

    `cost_usd` is None without a price; `margin_usd` is half the width of its 95 % interval, from how far sampled calls
    differ from what their lengths foretell.
    """

    n_calls: int
    n_known: int
    n_sampled: int
    usage: Usage
    cost_usd: float | None
    margin_usd: float | None


def estimate(
    answerer: Answerer, calls: Iterable[Call[Any]], *, n_sampled: int = N_SAMPLED, seed: int = 0
) -> dict[str, Estimate]:
    """Ask a sample, drawn by hash, of the calls of each stage; what the others will cost, by stage.

    Prompts are scaled by their length, answers by their number, both with the share of calls that need a repair. The
    first call of a stage is asked alone, for it fills the endpoint's cache that the others read.

    Raises:
        RunError: as `Answerer.answer`.
    """
    by_stage: dict[str, list[Call[Any]]] = {}
    n_known: dict[str, int] = {}
    for call in calls:
        n_known.setdefault(call.stage, 0)
        if answerer.is_settled(call):
            n_known[call.stage] += 1
        else:
            by_stage.setdefault(call.stage, []).append(call)
    found = {}
    for stage, n_before in n_known.items():
        waiting = sorted(by_stage.get(stage, ()), key=lambda call: _drawn(call, seed))
        sample, others = waiting[:n_sampled], waiting[n_sampled:]
        outcomes = [*answerer.answer(sample[:1]), *answerer.answer(sample[1:])]
        found[stage] = _scaled(answerer, outcomes, others, n_before)
    return found


def expected_usd(answerer: Answerer, planned: Mapping[str, int]) -> float | None:
    """What so many calls of each stage cost at the mean of those in the ledger, repairs and further attempts included;
    None where there is none, or no price.

    For calls that cannot be written down yet, such as tests of labels that are still to come: ask for a few features
    through all stages, then plan with the numbers of the others.
    """
    total = 0.0
    for stage, n_calls in planned.items():
        spent = answerer.spent(stage)
        if spent.n_unpriced or not spent.n_calls:
            return None
        total += n_calls * spent.cost_usd / spent.n_calls
    return total


def _scaled(
    answerer: Answerer, sampled: list[tuple[Call[Any], Outcome[Any]]], others: list[Call[Any]], n_known: int
) -> Estimate:
    rest = sampled[1:] or sampled
    n_bytes, n_other_bytes = sum(_n_bytes(call) for call, _ in rest), sum(map(_n_bytes, others))
    usage = sum((outcome.usage for _, outcome in rest), start=Usage())
    by_length = n_other_bytes / max(n_bytes, 1)
    scaled = Usage(
        prompt_tokens=round(usage.prompt_tokens * by_length),
        cached_tokens=round(usage.cached_tokens * by_length),
        completion_tokens=round(usage.completion_tokens * len(others) / max(len(rest), 1)),
    )
    price = answerer.settings.prices.get((sampled[0][0].model if sampled else None) or answerer.place.model)
    by_batch = answerer.settings.lane == "batch"
    usd, margin_usd = (None, None) if price is None else (cost_usd(scaled, price, by_batch=by_batch), 0.0)
    if usd is not None and len(rest) > 1 and others:
        per_byte = sum(outcome.cost_usd or 0.0 for _, outcome in rest) / max(n_bytes, 1)
        squares = ((outcome.cost_usd or 0.0) - per_byte * _n_bytes(call) for call, outcome in rest)
        variance = sum(excess**2 for excess in squares) / (len(rest) - 1)
        margin_usd = Z_95 * sqrt(variance * (1 / len(rest) + 1 / len(others))) * len(others)
    return Estimate(
        n_calls=len(others), n_known=n_known, n_sampled=len(sampled), usage=scaled, cost_usd=usd,
        margin_usd=margin_usd,
    )  # fmt: skip


def _n_bytes(call: Call[Any]) -> int:
    return sum(len(message.content.encode()) for message in call.messages)


def _drawn(call: Call[Any], seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{call.stage}/{call.target}/{call.parameters.draw}".encode()).digest()
