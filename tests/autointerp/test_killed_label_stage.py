"""The stage is killed at random moments and gone on with: by the server's log nothing in the ledger is asked again."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.autointerp.conftest import LABELS
from tests.autointerp.labellers import Oracle
from tests.autointerp.server import Server, read_log, serving
from tests.conftest import REPOSITORY
from tracer.autointerp.client.ledger import read_rows
from tracer.storage.store import open_store
from tracer.tables.database import query

N_IN_FLIGHT = 8
N_KILLS = 3
DEADLINE_S = 300


def n_answers(log: Path) -> int:
    """Answers that the server has sent."""
    return sum(row["result"] == "answer" for row in read_log(log))


@pytest.mark.slow
def test_killed_at_random_moments_the_stage_ends_with_the_labels_of_an_undisturbed_one(
    demo_run: Path, harvest: Path, oracle: Oracle, tmp_path: Path
) -> None:
    log, labels = tmp_path / "server.jsonl", LABELS | {"scorers": ["detection"], "deep": [], "max_groups": 5}
    runs = [tmp_path / "killed", tmp_path / "undisturbed"]
    for run in runs:
        shutil.copytree(demo_run, run)
    with serving(Server(answer=oracle, log=log, latency_s=0.05)) as url:
        client = {"base_url": f"{url}/v1", "model": "judge", "start_concurrency": N_IN_FLIGHT,
                  "max_concurrency": N_IN_FLIGHT}  # fmt: skip
        (tmp_path / "label.yaml").write_text(yaml.safe_dump({"autointerp": client, "labels": labels}))

        def start(run: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "tracer", "label", str(run), "--harvest", str(harvest), "--inline",
                       "--config", str(tmp_path / "label.yaml")]  # fmt: skip
            environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OPENAI_API_KEY": "sk-test"}
            return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)

        rng = random.Random(0)
        known: set[str] = set()
        for n_before in range(N_KILLS):
            wanted, process = n_answers(log) + rng.randint(5, 60), start(runs[0])
            deadline = time.monotonic() + DEADLINE_S
            while n_answers(log) < wanted and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.3)  # what was in flight at the server ends
            rows = read_rows(open_store(runs[0]), "autointerp")
            assert n_answers(log) - len(rows) <= N_IN_FLIGHT * (1 + n_before)
            known |= {row.request_hash for row in rows}
        assert start(runs[0]).wait(DEADLINE_S) == 0
        asked = Counter(row["asked"] for row in read_log(log))
        n_again = sum(n - 1 for n in asked.values())
        assert n_again <= N_IN_FLIGHT * N_KILLS
        rows = read_rows(open_store(runs[0]), "autointerp")
        assert len(rows) == len({row.request_hash for row in rows}) == n_answers(log) - n_again
        assert known <= {row.request_hash for row in rows}
        assert start(runs[1]).wait(DEADLINE_S) == 0
    said = "SELECT target_id, label, method FROM all_labels ORDER BY ALL"
    scored = "SELECT label_id, scorer, measure, tested, value FROM label_scores ORDER BY ALL"
    for sql in (said, scored):
        first, second = (query(run / "results.duckdb", sql) for run in runs)
        assert first.equals(second)
