"""Keys: in the environment and in requests, and nowhere else, even where an endpoint sends them back."""

import json
import logging
import traceback
from dataclasses import replace

import pytest

from tests.autointerp.asked import named_calls
from tracer.autointerp.client.calls import Parameters
from tracer.config.labels import load_labelling_config
from tracer.errors import ConfigError, RunError

KEY = "sk-test-6f1d0c77aa"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.DEBUG):
        yield caplog


def holds_the_key(folder) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize("lane", ["now", "batch"])
def test_a_key_is_in_no_file_log_or_repr(asked, logged, monkeypatch, lane) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    started = asked(key=KEY, answer=lambda messages, schema: f'{{"reasoning": "{KEY}", "name": "x", "ready": true}}')
    with started.answerer(lane=lane, batch_poll_s=0.05) as answerer:
        outcomes = [outcome for _, outcome in answerer.answer(named_calls(5))]
        shown = [repr(thing) for thing in (answerer, answerer.settings, answerer.place, vars(answerer), *outcomes)]
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert holds_the_key(started.run) == []
    assert not any(KEY in text for text in shown)
    assert logged.text
    assert KEY not in logged.text


def test_a_refused_key_that_the_endpoint_repeats_is_not_shown(asked, logged, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    started = asked(key="another")
    with pytest.raises(RunError, match=r"Check the key in the environment") as caught:
        started.answers(named_calls(5))
    assert "[key]" in str(caught.value)
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join(trace.format())
    assert KEY not in logged.text
    assert holds_the_key(started.run) == []


def test_a_failure_that_the_endpoint_words_with_the_key_is_kept_without_it(asked, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    started = asked(limit_name=f"a name that {KEY} may use")
    calls = [replace(call, form=None, parameters=Parameters()) for call in named_calls(2)]
    assert {outcome.error_class for _, outcome in started.answers(calls)} == {"bad_request"}
    assert all("[key]" in row.message for row in started.rows())
    assert holds_the_key(started.run) == []


@pytest.mark.parametrize("url", [f"http://user:{KEY}@127.0.0.1/v1", f"http://127.0.0.1/v1?key={KEY}"])
@pytest.mark.parametrize("place", ["OPENAI_BASE_URL", "base_url", "azure.endpoint"])
def test_a_key_in_a_url_is_refused_and_not_shown(asked, monkeypatch, tmp_path, url, place) -> None:
    asked_of = {"base_url": url if place == "base_url" else None, "model": "m"}
    if place == "azure.endpoint":
        asked_of["azure"] = {"endpoint": url, "deployment": "m"}
    if place == "OPENAI_BASE_URL":
        monkeypatch.setenv(place, url)
    file = tmp_path / "label.yaml"
    file.write_text(json.dumps({"autointerp": asked_of}))
    with pytest.raises(ConfigError, match="a plain URL") as caught:
        asked().answerer(**load_labelling_config(file).autointerp.model_dump())
    assert place in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))
