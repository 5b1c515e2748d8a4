"""Actor processes that hang for ever, with nobody else there who could do their work."""

import io
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import ray
from rich.console import Console

from tests.run.tiny_worker import Fault, TinyWorker, begin_tiny_run
from tracer.run import pipeline
from tracer.tables.equality import compare_tables


class HangingWorker(TinyWorker):
    """Hangs once: at `load` or `feature_logits` asleep, at `trace` of the last shard (prompt 19) stopped by signal."""

    def __init__(self, config, *, place: str, folder: Path) -> None:
        super().__init__(config)
        self._place, self._once = place, Fault("hang", folder)
        if place == "load" and self._once.is_due():
            time.sleep(1e6)

    def trace(self, prompts, shard_id, attempt, **settings):
        """As `TinyWorker.trace`."""
        is_last = 19 in [prompt.metadata["number"] for prompt in prompts]
        if self._place == "trace" and is_last and self._once.is_due():
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().trace(prompts, shard_id, attempt, **settings)

    def feature_logits(self, features, n_tokens):
        """As `TinyWorker.feature_logits`."""
        if self._place == "feature_logits" and self._once.is_due():
            time.sleep(1e6)
        return super().feature_logits(features, n_tokens)


@pytest.fixture
def cluster():
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=30)
    yield
    ray.shutdown()


@pytest.mark.parametrize(
    "place", ["trace", *(pytest.param(place, marks=pytest.mark.faults) for place in ("load", "feature_logits"))]
)
def test_an_actor_that_hangs_is_given_up_and_the_tables_are_equal(place, tmp_path, cluster):
    undisturbed, root = tmp_path / "undisturbed" / "run", tmp_path / "disturbed" / "run"
    console = Console(file=io.StringIO(), width=300)
    whole = pipeline.run(begin_tiny_run(undisturbed), undisturbed, inline=True, console=console, make_worker=TinyWorker)
    config = begin_tiny_run(root, n_actors=1, hung_after_s=4)
    make_worker = partial(HangingWorker, place=place, folder=tmp_path / "fault")
    result = pipeline.run(config, root, console=console, make_worker=make_worker)
    assert len(list((tmp_path / "fault").iterdir())) == 1
    assert ("HungError: no receipt after " in console.file.getvalue()) == (place == "trace")
    assert (result.n_failures, result.n_shards_given_up) == (0, 0)
    assert compare_tables(whole.database, result.database) == []
