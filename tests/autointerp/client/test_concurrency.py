"""Requests in flight: doubled, a fifth fewer per episode of 429, never below what is borne; pauses; oldest first."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from tests.autointerp.asked import named_calls, server_process
from tests.autointerp.faults import Faults
from tests.autointerp.server import read_log
from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.concurrency import AdaptiveLimit
from tracer.config.autointerp import ClientConfig
from tracer.storage.store import open_store


async def round_of_answers(limit: AdaptiveLimit) -> None:
    """Take all places, and answer in each."""
    async with AsyncExitStack() as stack:
        for age in range(int(limit.limit)):
            await stack.enter_async_context(limit.slot(age))
        for _ in range(int(limit.limit)):
            limit.answered(0.0)


def test_it_doubles_until_the_first_429_and_then_grows_by_a_twentieth() -> None:
    async def grow() -> list[float]:
        limit, seen = AdaptiveLimit(start=4, most=30, cooldown_s=0.0), []
        for _ in range(2):
            await round_of_answers(limit)
            seen.append(limit.limit)
        limit.refused(None, sent_at=asyncio.get_running_loop().time())
        seen.append(limit.limit)
        await round_of_answers(limit)
        return [*seen, limit.limit]

    assert asyncio.run(grow()) == [8, 16, 16 * 0.8, 16 * 0.8 * 1.05]


def test_answers_without_a_full_round_change_nothing() -> None:
    async def answer() -> float:
        limit = AdaptiveLimit(start=4, most=30, cooldown_s=0.0)
        for age in range(20):
            async with limit.slot(age):
                limit.answered(0.0)
        return limit.limit

    assert asyncio.run(answer()) == 4


def test_429s_of_one_episode_count_once() -> None:
    async def refuse() -> list[float]:
        limit, now = AdaptiveLimit(start=20, most=30, cooldown_s=60.0), asyncio.get_running_loop().time
        sent_at = now()
        for _ in range(5):
            limit.refused(None, sent_at=sent_at)
        await asyncio.sleep(0.01)
        limit.refused(None, sent_at=now())
        return limit.limit

    assert asyncio.run(refuse()) == 16


def test_it_waits_as_long_as_the_endpoint_asks_and_lets_the_oldest_through_first() -> None:
    async def wait() -> tuple[list[int], float]:
        limit, order, loop = AdaptiveLimit(start=1, most=1, cooldown_s=0.1), [], asyncio.get_running_loop()

        async def work(age: int) -> None:
            async with limit.slot(age):
                order.append(age)

        begun = loop.time()
        limit.refused(0.2, sent_at=begun)
        await asyncio.gather(*(work(age) for age in (3, 1, 2)))
        return order, loop.time() - begun

    order, seconds = asyncio.run(wait())
    assert order == [1, 2, 3]
    assert seconds >= 0.2


def test_what_is_refused_keeps_no_distance_to_the_next() -> None:
    async def distances() -> list[float]:
        limit, found, loop = AdaptiveLimit(start=2, most=2, cooldown_s=60.0), [], asyncio.get_running_loop()
        limit.refused(1.0, sent_at=loop.time())  # a quarter of a second between two from now on
        for is_refused in (True, False):
            async with limit.slot(0):
                begun = loop.time()
                if is_refused:
                    limit.refused(0.01, sent_at=begun)
            async with limit.slot(0):
                found.append(loop.time() - begun)
        return found

    after_refusal, after_answer = asyncio.run(distances())
    assert 0.01 <= after_refusal < 0.2 < 0.25 <= after_answer


def test_a_cancelled_call_gives_its_place_back() -> None:
    async def cancel() -> int:
        limit = AdaptiveLimit(start=1, most=1, cooldown_s=0.1)

        async def hold() -> None:
            async with limit.slot(0):
                await asyncio.sleep(60)

        holders = [asyncio.ensure_future(hold()) for _ in range(3)]
        await asyncio.sleep(0)
        for holder in holders:
            holder.cancel()
        await asyncio.gather(*holders, return_exceptions=True)
        async with limit.slot(1):
            return limit.in_flight

    assert asyncio.run(cancel()) == 1


def test_other_failures_do_not_shrink_it(asked) -> None:
    started = asked(faults=Faults(server_error=0.3), latency_s=0.01)
    with started.answerer() as answerer:
        assert all(outcome.is_ok for _, outcome in answerer.answer(named_calls(60)))
        assert answerer.concurrency[1] >= 20


def test_500_calls_against_a_limit_of_rate_are_all_answered_with_few_refusals(tmp_path) -> None:
    log, store = tmp_path / "log.jsonl", open_store(tmp_path / "run")
    with server_process(log, "--per-minute", "6000", "--burst", "20", "--latency-s", "0.2") as url:
        settings = ClientConfig(base_url=url, model="m", cooldown_s=1.0)
        with Answerer(settings, store) as answerer:
            statuses = Counter(outcome.status for _, outcome in answerer.answer(named_calls(500)))
    results = Counter(entry["result"] for entry in read_log(log))
    assert statuses == {"ok": 500}
    assert results["answer"] == 501
    assert results["429"] < results["answer"]
