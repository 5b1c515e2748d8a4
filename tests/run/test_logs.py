"""The log of a run for programs: one JSON object a line, no secrets, and nothing where none is asked for."""

import io
import json
import logging
from datetime import datetime

import pytest
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty, record_of
from tracer.errors import RunError
from tracer.run import pipeline
from tracer.run.ledger import ShardError
from tracer.run.logs import log_event, logged


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a").mkdir()
    return tmp_path / "a" / "run"


def trace(root, config, make_worker=TinyWorker):
    return pipeline.trace(config, root, inline=True, console=Console(file=io.StringIO()), make_worker=make_worker)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_logs_workers_commits_and_failed_attempts_and_is_appended_to_by_the_next_driver(root, tmp_path):
    log = tmp_path / "new" / "log.jsonl"
    config = begin_tiny_run(root, max_attempts=1, log_file=str(log))
    trace(root, config, faulty("raise", tmp_path / "fault", number=7))
    trace(root, config)
    lines = lines_of(log)
    assert [line["event"] for line in lines] == [
        *("driver started", "worker started", "shard committed", "shard given up", "shard committed"),
        *("shard committed", "driver ended", "driver started", "worker started", "shard committed", "driver ended"),
    ]
    assert {line["run"] for line in lines} == {"run"}
    assert all(datetime.fromisoformat(line["time"]).tzinfo for line in lines)
    shards = [shard.shard_id for shard in record_of(root).shards]
    (given_up,) = (line for line in lines if line["event"] == "shard given up")
    assert (given_up["level"], given_up["shard"], given_up["attempt"]) == ("error", shards[1], 0)
    assert (given_up["error_class"], given_up["message"]) == ("ValueError", "made to fail")
    committed = [line for line in lines if line["event"] == "shard committed"]
    assert [line["shard"] for line in committed] == [shards[0], *shards[2:], shards[1]]
    assert {(line["level"], line["n_prompts"], line["device"]) for line in committed} == {("info", 6, "cpu")}


def test_an_attempt_that_is_repeated_is_a_warning(root, tmp_path):
    log = tmp_path / "log.jsonl"
    trace(root, begin_tiny_run(root, log_file=str(log)), faulty("raise", tmp_path / "fault", number=7))
    (failed,) = (line for line in lines_of(log) if line["level"] == "warning")
    shard_id = record_of(root).shards[1].shard_id
    assert (failed["event"], failed["shard"], failed["attempt"]) == ("shard failed", shard_id, 0)


def test_a_failed_prompt_is_named(root, tmp_path):
    names = []

    class Failing(TinyWorker):
        def trace(self, prompts, shard_id, attempt, **settings):
            tables = super().trace(prompts, shard_id, attempt, **settings)
            names.append(prompts[2].prompt_id)
            row = {
                "stage": "trace", "item_id": prompts[2].prompt_id, "shard_id": shard_id, "error_class": "DataError",
                "message": "no", "text": "x", "attempts": 1,
            }  # fmt: skip
            return tables | {"failures": type(tables["failures"]).from_pylist([row], tables["failures"].schema)}

    log = tmp_path / "log.jsonl"
    trace(root, begin_tiny_run(root, log_file=str(log)), Failing)
    failed = [line for line in lines_of(log) if line["event"] == "prompt failed"]
    assert [line["prompts"] for line in failed] == [[name] for name in names]
    assert {line["error_class"] for line in failed} == {"DataError"}


def test_the_driver_that_fails_says_why_and_secrets_of_the_environment_are_starred_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another/secret")
    monkeypatch.setenv("RAY_AUTH_MODE_TOKEN", "token")
    log = tmp_path / "log.jsonl"

    def drive():
        with logged(str(log), "run"):
            log_event("info", "a token", message="Bearer hf_very_secret", prompts=["p"])
            raise RunError("there", found="key another/secret", expected="none", to_do="Mend it.")

    with pytest.raises(RunError):
        drive()
    text = log.read_text()
    assert "secret" not in text
    assert [line["event"] for line in lines_of(log)] == ["driver started", "a token", "driver stopped"]
    assert lines_of(log)[1]["message"] == "Bearer ***"
    assert lines_of(log)[2]["message"] == "there: found key ***; expected none. Mend it."


def test_without_a_file_nothing_is_written_or_printed_and_handlers_are_taken_off(root, tmp_path, capfd):
    trace(root, begin_tiny_run(root, max_attempts=1), faulty("raise", tmp_path / "fault", number=7))
    assert capfd.readouterr() == ("", "")
    logger = logging.getLogger("tracer")
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)
    with logged(str(tmp_path / "log.jsonl"), "run"):
        assert logger.level == logging.INFO
    assert (logger.handlers, logger.level) == ([], logging.NOTSET)


def test_a_file_that_cannot_be_written_or_would_be_lost_is_refused(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="Choose another --log-file"), logged(str(tmp_path), "run"):
        pass
    monkeypatch.setenv("RAY_JOB_ID", "01000000")
    with pytest.raises(RunError, match="absolute path"), logged("log.jsonl", "run"):
        pass


def test_a_shard_error_without_a_prompt_names_none():
    from tracer.run.logs import error_fields

    error = ShardError(shard_id="s", attempt=3, error_class="ValueError", message="no")
    assert error_fields(error) == {"shard": "s", "attempt": 3, "error_class": "ValueError", "message": "no"}
