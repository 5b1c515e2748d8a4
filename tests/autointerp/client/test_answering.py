"""Calls against a server over real HTTP: every kind of fault, every mode of answers, and nothing asked twice."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.autointerp.asked import named_answer, named_calls, right_name
from tests.autointerp.faults import Faults
from tracer.autointerp.client.answerer import FOLDER
from tracer.autointerp.client.calls import Parameters
from tracer.autointerp.client.ledger import read_calls
from tracer.errors import ConfigError, RunError
from tracer.storage.store import open_store


def test_under_faults_of_every_kind_no_call_is_lost_doubled_or_given_a_false_answer(asked) -> None:
    started = asked(answer=named_answer, faults=Faults.of_every_kind(0.1, seed=3), latency_s=0.01, hang_s=30.0)
    calls = list(named_calls(300))
    found = started.answers(calls, timeout_s=1.0)
    assert Counter(call.target for call, _ in found) == Counter(call.target for call in calls)
    for call, outcome in found:
        assert outcome.status in {"ok", "refused", "truncated"}
        assert not outcome.is_ok or outcome.parsed.name == right_name(call.messages[1].content)
    results = Counter(started.results())
    assert {"answer", "429", "503", "hung", "dropped", "malformed"} <= results.keys()
    statuses = Counter(row.status for row in started.rows() if row.error_class != "malformed")
    assert sum(statuses.values()) == results["answer"]
    assert statuses["refused"] == sum(outcome.status == "refused" for _, outcome in found) > 0
    assert statuses["truncated"] == sum(outcome.status == "truncated" for _, outcome in found) > 0
    assert statuses["parse_failed"] > 0
    assert any(row.repairs for row in started.rows())


def test_asking_again_asks_nothing(asked) -> None:
    started = asked()
    first = started.answers(list(named_calls(30)))
    n_asked = len(started.results())
    second = started.answers(list(named_calls(30)))
    assert len(started.results()) == n_asked == 31
    assert {call.target: outcome.parsed for call, outcome in first} == {
        call.target: outcome.parsed for call, outcome in second
    }
    assert all(outcome.from_ledger for _, outcome in second)
    assert not any(outcome.from_ledger for _, outcome in first)


@pytest.mark.parametrize(
    ("modes", "expected"),
    [(("json_schema", "json_object"), "json_schema"), (("json_object",), "json_object"), ((), "text")],
)
def test_the_best_mode_that_the_endpoint_can_is_probed_once_and_remembered(asked, modes, expected) -> None:
    started = asked(modes=modes)
    assert all(outcome.is_ok for _, outcome in started.answers(named_calls(20)))
    rows = [row for row in started.rows() if row.stage == "label"]
    assert {row.answer_mode for row in rows} == {expected}
    n_probes = sum(row.stage == "probe" for row in started.rows())
    assert all(outcome.is_ok for _, outcome in started.answers(named_calls(20, first=20)))
    assert sum(row.stage == "probe" for row in started.rows()) == n_probes
    assert len(started.results()) == 40 + n_probes


def test_another_name_of_the_most_tokens_is_learned(asked) -> None:
    started = asked(limit_name="max_completion_tokens")
    assert all(outcome.is_ok for _, outcome in started.answers(named_calls(30)))
    assert Counter(started.results())["answer"] == 31


def test_equal_calls_are_asked_once_and_each_gets_the_answer(asked) -> None:
    started = asked(latency_s=0.1)
    (call,) = named_calls(1)
    found = started.answers([call, replace(call, target="another"), call, replace(call, parameters=Parameters(draw=1))])
    assert len({outcome.request_hash for _, outcome in found}) == 2
    assert len(started.results()) == 3


def test_two_wrong_answers_are_an_outcome_and_stay_one(asked) -> None:
    started = asked(answer=lambda messages, schema: "no JSON at all")
    ((_, outcome),) = started.answers(list(named_calls(1)), answer_mode="json_schema")
    assert (outcome.status, outcome.message) == ("parse_failed", "there is no JSON object in it")
    assert started.results() == ["answer", "answer"]
    ((_, again),) = started.answers(list(named_calls(1)), answer_mode="json_schema")
    assert again.status == "parse_failed"
    assert started.results() == ["answer", "answer"]


def test_failures_are_rows_and_asked_again_by_their_class(asked) -> None:
    started = asked(faults=Faults(server_error=1.0))
    calls = list(named_calls(3))
    found = started.answers(calls, answer_mode="json_schema", deadline_s=3.0)
    # where the last request is under way when time is up, that is what the row says
    assert {outcome.status for _, outcome in found} == {"failed"}
    assert {outcome.error_class for _, outcome in found} <= {"server", "timeout"}
    n_asked = len(started.results())
    assert n_asked > 3
    kept = started.answers(calls, answer_mode="json_schema", retried_failures=[])
    assert {(outcome.status, outcome.from_ledger) for _, outcome in kept} == {("failed", True)}
    assert len(started.results()) == n_asked
    started.server.faults = Faults()
    assert all(outcome.is_ok for _, outcome in started.answers(calls, answer_mode="json_schema"))
    assert [row.attempt for row in started.rows() if row.status == "ok"] == [1, 1, 1]


def test_a_hung_request_ends_at_the_calls_deadline(asked) -> None:
    started = asked(faults=Faults(hung=1.0))
    ((_, outcome),) = started.answers(list(named_calls(1)), answer_mode="json_schema", timeout_s=0.4, deadline_s=1.0)
    assert (outcome.status, outcome.error_class) == ("failed", "timeout")


def test_log_probabilities_come_with_answers_and_from_the_ledger(asked) -> None:
    started = asked()
    calls = [replace(call, parameters=Parameters(top_logprobs=2)) for call in named_calls(1)]
    for _ in range(2):
        ((_, outcome),) = started.answers(calls)
        assert "".join(item.token for item in outcome.logprobs) == outcome.text
        assert all(len(item.top) == 2 and item.top[0] == (item.token, item.logprob) for item in outcome.logprobs)


def test_calls_are_read_as_answers_come(asked) -> None:
    started = asked()
    n_read = 0

    def calls():
        nonlocal n_read
        for call in named_calls(200):
            n_read += 1
            yield call

    with started.answerer(max_concurrency=5) as answerer:
        coming = answerer.answer(calls())
        next(coming)
        assert n_read <= 11
        coming.close()
    n_asked = len(started.results())
    assert n_asked < 30
    assert len(started.answers(named_calls(200))) == 200


def test_azure_is_asked_at_its_own_paths(asked, monkeypatch) -> None:
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-secret-key")
    started = asked(key="azure-secret-key")
    azure = {"endpoint": started.url, "api_version": "2024-10-21", "deployment": "mine"}
    found = started.answers(named_calls(5), base_url=None, azure=azure)
    assert {(outcome.status, outcome.model_returned) for _, outcome in found} == {("ok", "mine-2026-01-01")}


@pytest.mark.parametrize(
    "changed",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [{"message": {"content": ["part"]}}]},
        {"usage": {"prompt_tokens": "many"}},
    ],
)
def test_bodies_that_are_no_completion_are_malformed(asked, monkeypatch, changed) -> None:
    started = asked()
    whole = started.server._completion
    monkeypatch.setattr(started.server, "_completion", lambda body, fault: whole(body, fault) | changed)
    ((_, outcome),) = started.answers(list(named_calls(1)), answer_mode="json_schema")
    assert (outcome.status, outcome.error_class) == ("failed", "malformed")
    assert [row.attempt for row in started.rows()] == [0, 1, 2]


def test_half_a_character_in_an_answer_is_kept_as_something_that_can_be_written(asked) -> None:
    started = asked(answer=lambda messages, schema: '{"reasoning": "\\ud800", "name": "\ud800"}')
    started.answers(list(named_calls(1)), answer_mode="json_schema")
    assert sum(table.num_rows for table in read_calls(open_store(started.run), FOLDER)) == 2


def test_an_endpoint_that_is_not_there_ends_the_work(asked) -> None:
    started = asked()
    with pytest.raises(RunError, match="expected an endpoint that answers for m"):
        started.answers(named_calls(5), base_url="http://127.0.0.1:9/v1", deadline_s=0.5)


def test_an_endpoint_that_goes_away_ends_the_work(asked) -> None:
    started = asked(latency_s=0.05)

    def calls():
        for call in named_calls(200):
            if call.target.endswith("/40"):
                started.server.faults = Faults(dropped=1.0)
            yield call

    with pytest.raises(RunError, match="expected an endpoint that answers for m"):
        started.answers(calls(), deadline_s=0.3, max_concurrency=10)
    assert 20 <= sum(row.error_class == "connection" for row in started.rows()) < 100


def test_what_the_environment_must_give_is_named(asked) -> None:
    started = asked()
    with pytest.raises(ConfigError, match="Set OPENAI_MODEL"):
        started.answerer(model=None)
    with pytest.raises(ConfigError, match="Set OPENAI_API_KEY"):
        started.answerer(base_url=None)
    with pytest.raises(ConfigError, match="Set AZURE_OPENAI_API_KEY"):
        started.answerer(azure={"endpoint": started.url, "deployment": "mine"})
