"""The batch lane over real HTTP: cheaper, resumed where it was, and what it left open is asked call by call."""

import asyncio
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.autointerp.asked import named_answer, named_calls, right_name
from tests.autointerp.faults import Faults
from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.batch_files import Batch, Notes
from tracer.autointerp.client.batches import Asked, BatchLane
from tracer.autointerp.client.calls import Call, Usage
from tracer.autointerp.client.questions import Question
from tracer.autointerp.client.spending import cost_usd
from tracer.config.autointerp import PriceConfig
from tracer.storage.store import open_store

BY_BATCH = {"lane": "batch", "batch_poll_s": 0.05}
PRICES = {"m": {"input_usd": 2.0, "output_usd": 8.0}}


def notes(started) -> list[Batch]:
    return Notes(open_store(started.run), "autointerp/batches").read()


def submitted(answerer: Answerer, calls: list[Call[Any]]) -> Batch:
    """A batch that is made, and that nobody waits for."""
    lane: BatchLane = answerer._lane
    group = [Asked(Question.of(call, answerer.place), "json_schema") for call in calls]
    return asyncio.run_coroutine_threadsafe(lane.submit(group), answerer._loop).result(30)


def test_batches_fill_the_ledger_at_their_price(asked) -> None:
    started = asked(answer=named_answer)
    found = started.answers(named_calls(50), **BY_BATCH, batch_size=20, prices=PRICES)
    assert all(outcome.parsed.name == right_name(call.messages[1].content) for call, outcome in found)
    rows = [row for row in started.rows() if row.stage == "label"]
    assert {row.lane for row in rows} == {"batch"}
    assert started.results().count("batch") == 3
    (row, *_) = rows
    assert row.cost_usd == pytest.approx((row.prompt_tokens * 2.0 + row.completion_tokens * 8.0) / 2e6)
    assert notes(started) == []
    n_asked = len(started.results())
    assert all(outcome.from_ledger for _, outcome in started.answers(named_calls(50), **BY_BATCH, prices=PRICES))
    assert len(started.results()) == n_asked


def test_azure_has_batches_too(asked, monkeypatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-secret-key")
    started = asked(answer=named_answer)
    azure = {"endpoint": started.url, "api_version": "2024-10-21", "deployment": "mine"}
    found = started.answers(named_calls(5), **BY_BATCH, base_url=None, azure=azure)
    assert {outcome.status for _, outcome in found} == {"ok"}
    assert {row.lane for row in started.rows() if row.stage == "label"} == {"batch"}


def test_what_fails_in_a_batch_is_asked_call_by_call(asked) -> None:
    started = asked(answer=named_answer, faults=Faults.of_every_kind(0.3, seed=2))
    found = started.answers(named_calls(80), **BY_BATCH, timeout_s=1.0)
    assert len(found) == 80
    assert {outcome.status for _, outcome in found} <= {"ok", "refused", "truncated"}
    lanes = Counter(row.lane for row in started.rows() if row.status == "ok" and row.stage == "label")
    assert lanes["batch"] > lanes["now"] > 0


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_batch_of_a_killed_process_is_found_again(asked, forgotten) -> None:
    started = asked(answer=named_answer)
    calls = list(named_calls(20))
    with started.answerer(**BY_BATCH, answer_mode="json_schema") as answerer:
        batch = submitted(answerer, calls)
    assert notes(started) == [batch]
    if forgotten:
        Notes(open_store(started.run), "autointerp/batches").write(replace(batch, batch_id=None))
    found = started.answers([*calls, *named_calls(5, first=20)], **BY_BATCH, answer_mode="json_schema")
    assert all(outcome.is_ok for _, outcome in found)
    assert started.results().count("batch") == 2
    assert started.results().count("answer") == 25
    assert notes(started) == []


def test_a_note_of_a_batch_that_was_never_made_is_dropped(asked) -> None:
    started = asked()
    with started.answerer(answer_mode="json_schema") as answerer:
        hashes = tuple(Question.of(call, answerer.place).hash for call in named_calls(5))
    never_made = Batch(key="0" * 32, hashes=hashes, model="m", worst=((9, 9),) * len(hashes))
    Notes(open_store(started.run), "autointerp/batches").write(never_made)
    assert all(outcome.is_ok for _, outcome in started.answers(named_calls(5), **BY_BATCH, answer_mode="json_schema"))
    assert started.results().count("batch") == 1


def test_a_bound_in_dollars_holds_for_batches(asked) -> None:
    started = asked()
    whole = started.answers(named_calls(10), prices=PRICES)
    bound = sum(outcome.cost_usd for _, outcome in whole) * 3
    with started.answerer(**BY_BATCH, prices=PRICES, max_usd=bound) as answerer:
        statuses = Counter(outcome.status for _, outcome in answerer.answer(named_calls(200, first=10)))
        assert answerer.spent().cost_usd <= bound
    assert statuses["ok"] > 0
    assert statuses["over_budget"] > 0


@pytest.mark.parametrize("is_asked_again", [True, False])
def test_a_bound_in_dollars_counts_the_batches_of_a_killed_process(asked, is_asked_again) -> None:
    started, price = asked(), PriceConfig.model_validate(PRICES["m"])
    calls = list(named_calls(10))
    with started.answerer(**BY_BATCH, answer_mode="json_schema") as answerer:
        worst = [cost_usd(Usage(prompt_tokens=one[0], completion_tokens=one[1]), price, by_batch=True)
                 for one in submitted(answerer, calls).worst]  # fmt: skip
    bounds = {"prices": PRICES, "answer_mode": "json_schema", "max_usd": sum(worst) + min(worst) / 2}
    now = [*calls, *named_calls(30, first=10)] if is_asked_again else list(named_calls(30, first=10))
    with started.answerer(**BY_BATCH, **bounds) as answerer:
        statuses = Counter(outcome.status for _, outcome in answerer.answer(now))
    assert started.results().count("batch") == 1
    if is_asked_again:
        assert sum(row.cost_usd for row in started.rows()) <= bounds["max_usd"]
        assert statuses["ok"] >= 10
    else:
        assert statuses == {"over_budget": 30}
