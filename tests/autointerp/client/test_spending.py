"""Money: what answers cost, the bound that holds, and the estimate before."""

import pytest

from tests.autointerp.asked import named_calls
from tests.autointerp.faults import Faults
from tracer.autointerp.client.calls import Usage
from tracer.autointerp.client.estimate import estimate, expected_usd
from tracer.autointerp.client.spending import cost_usd
from tracer.config.autointerp import PriceConfig
from tracer.errors import ConfigError

PRICES = {"m": {"input_usd": 2.0, "cached_input_usd": 0.5, "output_usd": 8.0}}


def test_cached_tokens_and_batches_are_cheaper() -> None:
    price = PriceConfig(input_usd=2.0, cached_input_usd=0.5, output_usd=8.0)
    usage = Usage(prompt_tokens=1_000_000, cached_tokens=400_000, completion_tokens=100_000)
    assert cost_usd(usage, price) == pytest.approx(1.2 + 0.2 + 0.8)
    assert cost_usd(usage, price, by_batch=True) == pytest.approx(1.1)
    assert cost_usd(usage, PriceConfig(input_usd=2.0, output_usd=8.0)) == pytest.approx(2.8)
    assert cost_usd(usage, None) is None


def test_without_a_price_tokens_are_counted_and_a_bound_is_refused(asked) -> None:
    started = asked()
    with started.answerer() as answerer:
        assert all(outcome.cost_usd is None for _, outcome in answerer.answer(named_calls(5)))
        spent = answerer.spent()
    assert spent.cost_usd == 0.0
    assert spent.n_unpriced == 6
    assert spent.usage.prompt_tokens > 5_000
    with pytest.raises(ConfigError, match=r"expected a price in autointerp\.prices"):
        started.answerer(max_usd=1.0)
    with started.answerer(max_usd=1.0, prices=PRICES) as answerer, pytest.raises(ConfigError, match="for other"):
        list(answerer.answer([_of_model(call, "other") for call in named_calls(1)]))


def _of_model(call, model):
    from dataclasses import replace

    return replace(call, model=model)


def test_the_bound_stops_within_one_calls_cost_per_request_in_flight(asked) -> None:
    started, n_in_flight = asked(latency_s=0.02), 8
    bounds = {"prices": PRICES, "start_concurrency": n_in_flight, "max_concurrency": n_in_flight}
    found = started.answers(named_calls(40), **bounds)
    dearest = max(outcome.cost_usd for _, outcome in found)
    more = sum(outcome.cost_usd for _, outcome in found) * 2
    with started.answerer(**bounds, max_usd=more) as answerer:
        outcomes = [outcome for _, outcome in answerer.answer(named_calls(200, first=40))]
        spent = answerer.spent()
    n_left_out = sum(outcome.status == "over_budget" for outcome in outcomes)
    assert len(outcomes) == 200
    assert 0 < n_left_out < 200
    assert spent.cost_usd <= more
    assert more - spent.cost_usd <= dearest * n_in_flight
    n_asked = len(started.results())
    assert n_asked == sum(outcome.is_ok for outcome in outcomes) + 41
    finished = started.answers(named_calls(240), **bounds, max_usd=more * 10)
    assert all(outcome.is_ok for _, outcome in finished)
    assert len(started.results()) == 241


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_estimate_is_within_15_per_cent_of_the_spend_that_follows(asked, share) -> None:
    started = asked(faults=Faults.of_every_kind(share, seed=1), latency_s=0.01)
    calls = [*named_calls(300), *named_calls(150, stage="detection", rules="Say whether the label fits. " * 20)]
    with started.answerer(prices=PRICES, timeout_s=1.0) as answerer:
        found = estimate(answerer, calls, n_sampled=50)
        before = {stage: answerer.spent(stage).cost_usd for stage in found}
        n_sampled = {stage: len([row for row in started.rows() if row.stage == stage]) for stage in found}
        assert all(outcome.status != "failed" for _, outcome in answerer.answer(calls))
        after = {stage: answerer.spent(stage).cost_usd for stage in found}
        known = estimate(answerer, calls)
    assert {stage: item.n_calls for stage, item in found.items()} == {"label": 250, "detection": 100}
    assert min(n_sampled.values()) >= 50
    total = sum(after.values()) - sum(before.values())
    assert sum(item.cost_usd for item in found.values()) == pytest.approx(total, rel=0.15)
    for stage, item in found.items():
        assert item.cost_usd == pytest.approx(after[stage] - before[stage], rel=0.15)
    assert {(item.n_calls, item.n_sampled, item.cost_usd) for item in known.values()} == {(0, 0, 0.0)}


def test_calls_that_are_not_written_yet_are_planned_by_the_mean_of_their_stage(asked) -> None:
    started = asked()
    with started.answerer(prices=PRICES) as answerer:
        list(answerer.answer(named_calls(20)))
        mean = answerer.spent("label").cost_usd / 20
        assert expected_usd(answerer, {"label": 100}) == pytest.approx(100 * mean)
        assert expected_usd(answerer, {"label": 100, "detection": 10}) is None


def test_repairs_and_failed_attempts_are_part_of_what_a_call_costs(asked) -> None:
    started = asked(faults=Faults(wrong_form=0.3, malformed=0.2, seed=4))
    with started.answerer(prices=PRICES) as answerer:
        list(answerer.answer(named_calls(20)))
        spent = answerer.spent("label")
        assert spent.n_rows > spent.n_calls == 20
        assert expected_usd(answerer, {"label": 100}) == pytest.approx(spent.cost_usd * 5)


def test_an_estimate_by_batches_is_at_their_price(asked) -> None:
    found = {}
    for lane in ("now", "batch"):
        with asked().answerer(prices=PRICES, lane=lane, batch_poll_s=0.05) as answerer:
            stage = f"label-{lane}"
            found[lane] = estimate(answerer, named_calls(30, stage=stage, rules="Say it."), n_sampled=10)[stage]
    assert found["batch"].cost_usd == pytest.approx(found["now"].cost_usd / 2, rel=0.15)
