"""kill -9 at random moments, and the same calls again: by the server's own log nothing is lost, and nothing that is in
the ledger is asked again.
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.autointerp.asked import asked_for, named_calls, right_name, server_process
from tests.autointerp.client.calling import N_IN_FLIGHT, settings
from tests.autointerp.server import read_log
from tracer.autointerp.client.answerer import FOLDER, Answerer
from tracer.autointerp.client.endpoint import TRANSIENT
from tracer.autointerp.client.ledger import LedgerRow, read_rows
from tracer.storage.store import open_store

LATENCY_S = 0.1
PATIENCE_S = 120.0


def answers(log: Path) -> list[str]:
    return [entry["asked"] for entry in read_log(log) if entry["result"] == "answer"]


def answered_rows(run: Path) -> list[LedgerRow]:
    return [row for row in read_rows(open_store(run), FOLDER) if row.error_class not in TRANSIENT]


def kill_after(n_answers: int, url: str, run: Path, log: Path, n_calls: int) -> None:
    """Start asking, kill at that many answers of the server, and wait until it has done with what was in flight."""
    command = [sys.executable, "-m", "tests.autointerp.client.calling", url, str(run), str(n_calls)]
    process = subprocess.Popen(command)
    begun = time.monotonic()
    while len(answers(log)) < n_answers:
        assert process.poll() is None
        assert time.monotonic() < begun + PATIENCE_S
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(LATENCY_S * 5)


@pytest.mark.parametrize(
    ("n_kills", "n_calls"), [(2, 150), pytest.param(8, 600, marks=pytest.mark.slow)], ids=["twice", "often"]
)
def test_killed_and_resumed_nothing_is_lost_and_nothing_known_is_asked_again(tmp_path, n_kills, n_calls) -> None:
    log, run = tmp_path / "log.jsonl", tmp_path / "run"
    options = ("--faults", "0.1", "--seed", "5", "--latency-s", str(LATENCY_S), "--hang-s", "60")
    options += ("--answer", "tests.autointerp.asked:named_answer")
    moments = sorted(random.Random(7).sample(range(5, n_calls), n_kills))
    with server_process(log, *options) as url:
        for nth, moment in enumerate(moments, start=1):
            known, n_entries = {asked_for(row) for row in answered_rows(run)}, len(read_log(log))
            kill_after(max(moment, len(answers(log)) + 1), url, run, log, n_calls)
            later = {entry["asked"] for entry in read_log(log)[n_entries:]}
            assert not known & later
            n_lost = len(answers(log)) - len(answered_rows(run))
            assert 0 <= n_lost <= N_IN_FLIGHT * nth
        known, n_entries = {asked_for(row) for row in answered_rows(run)}, len(read_log(log))
        with Answerer(settings(url), open_store(run)) as answerer:
            found = dict(answerer.answer(named_calls(n_calls)))
        assert not known & {entry["asked"] for entry in read_log(log)[n_entries:]}
        n_entries = len(read_log(log))
        with Answerer(settings(url), open_store(run)) as answerer:
            again = dict(answerer.answer(named_calls(n_calls)))
        assert len(read_log(log)) == n_entries
    assert len(found) == n_calls
    assert {outcome.status for outcome in found.values()} <= {"ok", "refused", "truncated", "parse_failed"}
    for call, outcome in found.items():
        assert not outcome.is_ok or outcome.parsed.name == right_name(call.messages[1].content)
        assert again[call].parsed == outcome.parsed
    rows = [(row.request_hash, row.attempt) for row in read_rows(open_store(run), FOLDER)]
    assert len(rows) == len(set(rows))
