"""The stages on Ray, with real actor processes that die."""

import io
import os
from collections import Counter
from functools import partial

import pytest
import ray
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty
from tracer.errors import ModelError, RunError
from tracer.run import pipeline
from tracer.run.pool import ActorPool
from tracer.run.protocol.messages import Fence, Spawn, WorkerUp
from tracer.run.work import ShardRunner
from tracer.tables.database import query
from tracer.tables.equality import compare_tables
from tracer.tables.schema import SHARD_TABLES


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=2,  # which nobody looks for: Ray counts what it is told
        resources={"seat": 3},
        include_dashboard=False,
        log_to_driver=False,
        logging_level=30,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    pipeline.run(begin_tiny_run(root), root, inline=True, console=quiet(), make_worker=TinyWorker)
    return root / "results.duckdb"


def quiet() -> Console:
    return Console(file=io.StringIO(), width=300)


def attempts(root):
    return sorted(query(root / "results.duckdb", "SELECT DISTINCT attempt FROM graphs")["attempt"])


def test_two_actors_give_the_same_tables_as_one_process_and_leave_ray_running(tmp_path, undisturbed):
    root, console, meeting = tmp_path / "run", quiet(), tmp_path / "meeting"
    meeting.mkdir()
    make_worker = partial(TinyWorker, meeting=meeting, seconds=0.5)
    result = pipeline.run(begin_tiny_run(root), root, console=console, make_worker=make_worker)
    assert (result.n_graphs, result.n_failures) == (24, 0)
    assert compare_tables(undisturbed, result.database) == []
    assert "worker 2 ready on cpu" in console.file.getvalue()
    assert ray.is_initialized()


@pytest.mark.parametrize("kind", ["kill", "kill_writing"])
def test_a_killed_worker_is_replaced_and_the_tables_are_equal(kind, tmp_path, undisturbed):
    root, console = tmp_path / "run", quiet()
    config = begin_tiny_run(root, n_actors=1)
    result = pipeline.run(config, root, console=console, make_worker=faulty(kind, tmp_path / "fault", number=7))
    assert len(list(root.glob("parts/*-1.parquet"))) == len(SHARD_TABLES)
    assert len(list(root.glob("parts/*-0.parquet"))) == 3 * len(SHARD_TABLES) + 3 * (kind == "kill_writing")
    assert compare_tables(undisturbed, result.database) == []
    assert attempts(root) == [0, 1]
    assert "ActorDiedError" in console.file.getvalue()


def test_a_shard_that_always_kills_its_worker_is_given_up_and_the_others_are_done(tmp_path, undisturbed):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_actors=2, max_attempts=2)
    result = pipeline.run(
        config, root, console=quiet(), make_worker=faulty("kill", tmp_path / "fault", number=7, n_times=99)
    )
    assert (result.n_graphs, result.n_shards_given_up) == (18, 1)
    (failure,) = query(result.database, "SELECT * FROM failures").to_dicts()
    assert (failure["error_class"], failure["attempts"]) == ("ActorDiedError", 2)


def test_a_failing_start_is_repeated_within_its_own_budget(tmp_path, undisturbed):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_actors=1, max_load_failures=2)
    result = pipeline.run(config, root, console=quiet(), make_worker=faulty("load", tmp_path / "fault"))
    assert compare_tables(undisturbed, result.database) == []
    assert attempts(root) == [0]


def test_starts_that_always_fail_end_the_run_with_the_last_error(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_actors=1, max_load_failures=2)
    with pytest.raises(RunError, match="2 failed starts, the last with: .*made to fail while loading"):
        pipeline.run(config, root, console=quiet(), make_worker=faulty("load", tmp_path / "fault", n_times=99))


def test_a_model_that_cannot_be_used_is_the_users_error_at_once(tmp_path):
    def refuse(config):
        raise ModelError("layer_3.safetensors", found="width 5", expected="width 6", to_do="Use others.")

    root = tmp_path / "run"
    with pytest.raises(ModelError, match=r"layer_3\.safetensors: found width 5"):
        pipeline.run(begin_tiny_run(root), root, console=quiet(), make_worker=refuse)


@pytest.mark.parametrize(
    ("runner", "complaint"),
    [
        (
            {"n_actors": 4, "min_actors": 3, "gpus_per_actor": 1, "cpus_per_actor": 0.5},
            r"found 2 CPU and 2 GPU on 1 machine\(s\), room for 2 actor\(s\); missing: 1 GPU; "
            r"expected room for 3 actor\(s\) of 0.5 CPU, 1 GPU each",
        ),
        (
            {"n_actors": 1, "resources_per_actor": {"seat": 4}},
            r"room for 0 actor\(s\); missing: 1 seat; .* 4 seat each",
        ),
    ],
)
def test_a_demand_that_the_cluster_can_never_meet_is_an_error_that_names_what_is_missing(runner, complaint, tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root, node_wait_s=0, **runner)
    with pytest.raises(RunError, match=complaint):
        pipeline.run(config, root, console=quiet(), make_worker=TinyWorker)


class Telling(TinyWorker):
    """Says what its process was given."""

    def facts(self) -> dict:
        """As `TinyWorker.facts`, with GPUs and threads."""
        return {**super().facts(), "environment": dict(os.environ), "gpus": ray.get_gpu_ids()}


def test_actors_share_gpus_by_fractions_and_have_threads_of_their_own_and_those_without_room_wait(tmp_path):
    root, told = tmp_path / "run", []
    config = begin_tiny_run(root, gpus_per_actor=0.5, cpus_per_actor=0.5, resources_per_actor={"seat": 1}, n_threads=3)
    pool = ActorPool(partial(ShardRunner, root, config, Telling), config.runner, on_start=told.append)
    try:
        for worker in range(4):
            pool.perform(Spawn(worker))
        up = set()
        while len(up) < 3:
            up |= {event.worker for event in pool.events() if isinstance(event, WorkerUp)}
        pool.perform(Fence(min(up)))
        while len(up) < 4:
            up |= {event.worker for event in pool.events() if isinstance(event, WorkerUp)}
    finally:
        pool.close()
    for facts in told:
        assert facts["environment"]["TOKENIZERS_PARALLELISM"] == "false"
        assert {facts["environment"][f"{library}_NUM_THREADS"] for library in ("OMP", "MKL", "OPENBLAS")} == {"3"}
    assert all(len(facts["gpus"]) == 1 for facts in told)
    assert len({facts["pid"] for facts in told}) == 4
    assert sorted(Counter(str(facts["gpus"][0]) for facts in told[:3]).values()) == [1, 2]


def test_more_actors_than_there_is_room_for_are_no_error(tmp_path, undisturbed):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_actors=4, cpus_per_actor=2)
    result = pipeline.run(config, root, console=quiet(), make_worker=TinyWorker)
    assert compare_tables(undisturbed, result.database) == []
