"""Jobs submitted to a real Ray head from another shell, with token authentication as Ray ships it."""

import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tests.jobs.head import DEADLINE_S, Head, started_head
from tests.storage.s3_server import BUCKET, in_environment, started_s3
from tracer.config import load_config
from tracer.run import pipeline
from tracer.storage.store import open_store
from tracer.tables.database import query
from tracer.tables.equality import compare_tables

DEMO = "package:tracer.model.demo/files"
N_PROMPTS = 24


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with started_head(n_cpus=2) as head:
        yield head


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config.yaml", n_prompts=N_PROMPTS)


def write_config(path: Path, *, n_prompts: int) -> Path:
    settings = {
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": n_prompts}},
        "runner": {"shard_size": 6, "n_actors": 1},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.slow
def test_a_submitted_pipeline_completes_the_run(head, config, tmp_path):
    root = tmp_path / "run"
    code, shown = head.submit("jobs/pipeline.py", "--config", str(config), "--out", str(root))
    assert code == 0, shown
    assert re.search(r"Job 'raysubmit_\w+' succeeded", shown)
    assert f"{N_PROMPTS} prompts in 4 shards" in shown
    assert re.search(r"worker 1 ready on cpu, process \d+", shown)
    assert "shards 4/4" in shown
    assert query(root / "results.duckdb", "SELECT count(*) FROM graphs").item() == N_PROMPTS


@pytest.mark.slow
def test_a_submitted_pipeline_works_in_an_object_store(head, config, tmp_path):
    uri = f"s3://{BUCKET}/runs/submitted"
    with started_s3() as storage:
        variables = {**storage, "TRACER_CACHE": str(tmp_path / "cache")}
        options = ("--runtime-env-json", json.dumps({"env_vars": variables}))
        code, shown = head.submit("jobs/pipeline.py", "--config", str(config), "--out", uri, options=options)
        assert code == 0, shown
        assert "shards 4/4" in shown
        assert f"{uri}/results.duckdb" in shown
        with in_environment(variables), open_store(uri).fetched(["results.duckdb"]) as root:
            assert query(root / "results.duckdb", "SELECT count(*) FROM graphs").item() == N_PROMPTS


@pytest.mark.slow
def test_the_stages_submitted_one_after_the_other_end_equal_to_a_run_without_ray(head, config, tmp_path):
    root = tmp_path / "run"
    code, shown = head.submit("jobs/trace.py", f"--config={config}", "--out", str(root))
    assert code == 0, shown
    assert f"{N_PROMPTS} graphs, 0 failures in {root}" in shown
    assert not (root / "results.duckdb").exists()
    code, shown = head.submit("jobs/aggregate.py", str(root))
    assert code == 0, shown
    inline = pipeline.run(load_config(config), tmp_path / "inline", inline=True, console=Console(file=io.StringIO()))
    assert compare_tables(inline.database, root / "results.duckdb") == []


def test_a_relative_out_fails_the_job_with_one_line(head, config):
    code, shown = head.submit("jobs/pipeline.py", str(config), "--out", "results")
    assert code == 1
    assert "exit code 2" in shown
    assert "\nerror: results: found a relative path inside a Ray job" in shown
    assert "Traceback" not in shown


@pytest.mark.slow
def test_a_wrong_setting_fails_the_job_with_one_line(head, config, tmp_path):
    settings = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(settings | {"runner": {"actors": 3}}))
    code, shown = head.submit("jobs/pipeline.py", "--config", str(config), "--out", str(tmp_path / "run"))
    assert code == 1
    assert f"\nerror: {config}, runner.actors: found an unknown setting; expected one of: out, n_actors" in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "run").exists()


def test_a_shell_without_the_mode_of_authentication_is_turned_away(head, config):
    code, shown = head.submit("jobs/pipeline.py", str(config), mode="")
    assert code == 1
    assert "Missing authentication token" in shown


@pytest.mark.slow
def test_a_stopped_job_says_so_and_goes_on_when_it_is_submitted_again(head, tmp_path):
    config, root = write_config(tmp_path / "config.yaml", n_prompts=300), tmp_path / "run"
    job = ("jobs/pipeline.py", "--config", str(config), "--out", str(root))
    code, shown = head.submit(*job, options=("--no-wait", "--submission-id", "stopped"))
    assert code == 0, shown
    deadline = time.monotonic() + DEADLINE_S
    while not list(root.glob("shards/[!.]*.json")):
        assert time.monotonic() < deadline, head.job("logs", "stopped").stdout
        time.sleep(0.1)
    stopped = head.job("stop", "stopped")
    assert stopped.returncode == 0, stopped.stdout
    shown = head.job("logs", "stopped").stdout
    assert "stopped; the same command goes on from here" in shown
    assert "Traceback" not in shown
    before = {path.name: path.read_bytes() for path in root.glob("shards/*.json")}
    assert 0 < len(before) < 50
    code, shown = head.submit(*job)
    assert code == 0, shown
    assert "shards 50/50" in shown
    assert {name: (root / "shards" / name).read_bytes() for name in before} == before
    assert query(root / "results.duckdb", "SELECT count(DISTINCT prompt_id) FROM graphs").item() == 300
