"""The stages on Ray, with real actor processes that die."""

import io

import pytest
import ray
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty
from tracer.errors import ModelError, RunError
from tracer.run import pipeline
from tracer.tables.database import query
from tracer.tables.equality import compare_tables


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=30)
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
    root, console = tmp_path / "run", quiet()
    result = pipeline.run(begin_tiny_run(root), root, console=console, make_worker=TinyWorker)
    assert (result.n_graphs, result.n_failures) == (24, 0)
    assert compare_tables(undisturbed, result.database) == []
    assert "worker 2 ready on cpu" in console.file.getvalue()
    assert ray.is_initialized()


def test_a_killed_worker_is_replaced_and_the_tables_are_equal(tmp_path, undisturbed):
    root, console = tmp_path / "run", quiet()
    config = begin_tiny_run(root, n_actors=1)
    result = pipeline.run(config, root, console=console, make_worker=faulty("kill", tmp_path / "fault", number=7))
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


def test_a_demand_that_the_cluster_can_never_meet_is_an_error_that_names_what_is_missing(tmp_path):
    root = tmp_path / "run"
    config = begin_tiny_run(root, n_actors=2, gpus_per_actor=1)
    with pytest.raises(
        RunError, match=r"room for 0 actor\(s\); missing: 2 GPU; expected room for 2 actor\(s\) of 1 CPU, 1 GPU"
    ):
        pipeline.run(config, root, console=quiet(), make_worker=TinyWorker)
