"""What Prometheus would scrape from Ray equals the ledger, while a run works and after it."""

import io
import re
import time
import urllib.request
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import ray
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty, record_of
from tracer.run import pipeline
from tracer.run.ledger import Ledger
from tracer.storage.store import open_store

pytestmark = pytest.mark.slow
DEADLINE_S = 60.0
SERIES = re.compile(r"^ray_tracer_(?P<name>\w+?)(?:_total)?{(?P<tags>.*)} (?P<value>\S+)$", re.MULTILINE)


class GatedWorker(TinyWorker):
    """Waits with the shard of prompt 12 until a file is there."""

    def __init__(self, config, *, gate: Path) -> None:
        super().__init__(config)
        self._gate = gate

    def trace(self, prompts, shard_id, attempt, **settings):
        """As `TinyWorker.trace`."""
        deadline = time.monotonic() + DEADLINE_S
        while prompts[0].metadata["number"] == 12 and not self._gate.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().trace(prompts, shard_id, attempt, **settings)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=30,
        _system_config={"metrics_report_interval_ms": 200},
    )
    yield
    ray.shutdown()


@pytest.fixture
def root(tmp_path):
    (tmp_path / "a").mkdir()
    return tmp_path / "a" / f"run-{tmp_path.name}"


def trace(root, config, make_worker):
    return pipeline.trace(config, root, console=Console(file=io.StringIO()), make_worker=make_worker)


def ledger_says(root) -> dict[str, float]:
    ledger, shards = Ledger(open_store(root)), record_of(root).shards
    receipts = ledger.committed(shards).values()
    counts = {
        "prompts": sum(receipt.n_prompts for receipt in receipts),
        "graphs": sum(receipt.parts["graphs"].n_rows for receipt in receipts),
        "rows": sum(part.n_rows for receipt in receipts for part in receipt.parts.values()),
        "failures": sum(receipt.n_failures for receipt in receipts),
        "shards": len(receipts),
    }
    shown = {name: number for name, number in counts.items() if number}
    return shown | {"shards_left": len(shards) - len(receipts), "shards_given_up": len(ledger.quarantined())}


def scraped(root, session: int) -> dict[str, float]:
    port = ray.nodes()[0]["MetricsExportPort"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as answer:
        text = answer.read().decode()
    tags = (f'run="{root.name}"', f'session="{session}"')
    found = SERIES.finditer(text)
    return {match["name"]: float(match["value"]) for match in found if all(tag in match["tags"] for tag in tags)}


def scraped_in_time(root, session: int, expected: dict[str, float]) -> dict[str, float]:
    """What is scraped as soon as it is what is expected, or at the end of the patience."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := scraped(root, session)) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_scraped_values_equal_the_ledger_during_and_after_a_run(root, tmp_path):
    config, gate, looks = begin_tiny_run(root, n_actors=1), tmp_path / "gate", []

    def look():
        deadline = time.monotonic() + DEADLINE_S
        while len(list((root / "shards").glob("[!.]*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        expected = ledger_says(root)
        looks.append((scraped_in_time(root, 0, expected), expected))
        gate.touch()

    watcher = Thread(target=look)
    watcher.start()
    trace(root, config, partial(GatedWorker, gate=gate))
    watcher.join()
    ((during, expected),) = looks
    assert during == expected
    assert (during["shards"], during["shards_left"]) == (2, 2)
    after = ledger_says(root)
    assert (after["shards"], after["shards_left"], after["prompts"]) == (4, 0, 24)
    assert scraped_in_time(root, 0, after) == after


def test_a_resumed_run_counts_from_what_is_committed_and_quarantine_is_shown(root, tmp_path):
    config = begin_tiny_run(root, n_actors=1, max_attempts=1)
    trace(root, config, faulty("raise", tmp_path / "fault", number=7))
    stopped = ledger_says(root)
    assert (stopped["shards"], stopped["shards_given_up"]) == (3, 1)
    assert scraped_in_time(root, 0, stopped) == stopped
    trace(root, config, TinyWorker)
    done = ledger_says(root)
    assert (done["shards"], done["shards_given_up"], done["shards_left"]) == (4, 0, 0)
    assert scraped_in_time(root, 1, done) == done
