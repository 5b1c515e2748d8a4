"""Worker processes that die, and clocks that lie, on a cluster of several machines."""

import random
import time
from functools import partial

import pytest

from tests.faults.disturbing import N_PROMPTS as N_TINY_PROMPTS
from tests.faults.disturbing import SHARD_SIZE, check_whole, n_retried, quiet, receipts, undisturbed_tiny_run
from tests.run.test_pool import test_a_killed_worker_is_replaced_and_the_tables_are_equal  # noqa: F401
from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty
from tracer.run import pipeline, pool, session
from tracer.run.status import read_status

pytestmark = pytest.mark.faults
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    pipeline.run(begin_tiny_run(root), root, inline=True, console=quiet(), make_worker=TinyWorker)
    return root / "results.duckdb"


@pytest.fixture(autouse=True)
def _on_the_cluster(machines):
    """Every case here works on it, also those of other modules."""


def test_a_shard_that_kills_every_worker_is_set_aside_and_done_once_it_is_harmless(undisturbed, tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_actors=3, max_attempts=2)
    make_worker = faulty("kill", tmp_path / "fault", number=7, n_times=99)
    result = pipeline.run(config, root, console=quiet(), make_worker=make_worker)
    assert (result.n_graphs, result.n_shards_given_up) == (18, 1)
    assert len(list((root / "quarantine").iterdir())) == 1
    result = pipeline.run(config, root, console=quiet(), make_worker=TinyWorker)
    check_whole(result, undisturbed, n_prompts=24)
    assert list((root / "quarantine").iterdir()) == []


class LeapingTime:
    """The module `time` with a monotonic clock that leaps by days, forward and back, now and then."""

    def __init__(self) -> None:
        self._chance, self._skew = random.Random(0), 0.0

    def monotonic(self) -> float:
        """Anything."""
        if self._chance.random() < 0.3:
            self._skew = self._chance.uniform(-3, 3) * DAY_S
        return time.monotonic() + self._skew

    def __getattr__(self, name: str) -> object:
        return getattr(time, name)


class WorkerOfAnotherDay(TinyWorker):
    """Its process has a calendar that is days off, each another number of them."""

    def __init__(self, config, **settings) -> None:
        super().__init__(config, **settings)
        right_time, days = time.time, random.SystemRandom().choice([-400, -2, 3, 500])
        time.time = lambda: right_time() + days * DAY_S


def test_clocks_that_leap_by_days_lose_and_double_nothing(tmp_path, monkeypatch):
    undisturbed, root = undisturbed_tiny_run(tmp_path / "undisturbed" / "run"), tmp_path / "disturbed" / "run"
    config = begin_tiny_run(root, n_prompts=N_TINY_PROMPTS, shard_size=SHARD_SIZE, n_actors=3)
    with monkeypatch.context() as leaping:
        for module in (pool, session):
            leaping.setattr(module, "time", LeapingTime())
        make_worker = partial(WorkerOfAnotherDay, seconds=0.2)
        result = pipeline.run(config, root, console=quiet(), make_worker=make_worker)
    check_whole(result, undisturbed)
    assert len(receipts(root)) == N_TINY_PROMPTS // SHARD_SIZE
    assert n_retried(root) == 0, "no worker was blamed"
    assert read_status(root).n_prompts_done == N_TINY_PROMPTS
