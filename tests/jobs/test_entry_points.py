"""The files of jobs/ as programs of their own, and the words that they understand."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.jobs.head import DEADLINE_S, REPOSITORY
from tracer.cli.jobs import run_job

DEMO = "package:tracer.model.demo/files"


@pytest.fixture
def _handler_put_back() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("_handler_put_back")
@pytest.mark.parametrize("words", [["configs/demo.yaml"], ["--config", "configs/demo.yaml"]])
def test_a_configuration_is_given_with_or_without_its_option(words, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as bare:
        run_job("config", words)
    printed = capsys.readouterr().out
    with pytest.raises(SystemExit) as joined:
        run_job("config", ["--config=configs/demo.yaml"])
    assert bare.value.code == joined.value.code == 0
    assert '"source": "tasks:atlas"' in printed
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("job", ["pipeline.py", "trace.py"])
def test_a_relative_out_inside_a_job_is_one_line_and_exit_code_2(job):
    command = [sys.executable, f"jobs/{job}", "--config", "configs/demo.yaml", "--out", "results"]
    environment = os.environ | {"RAY_JOB_ID": "raysubmit_1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: results: found a relative path inside a Ray job")
    assert len(done.stderr.splitlines()) == 1
    assert not (REPOSITORY / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--inline"], ["--actors", "1"]])
def test_sigterm_ends_a_job_as_ctrl_c_ends_a_command(options, tmp_path):
    config, root = tmp_path / "config.yaml", tmp_path / "run"
    settings = {
        "model": {"checkpoint": f"{DEMO}/language_model", "transcoders": f"{DEMO}/per_layer", "device": "cpu"},
        "corpus": {"source": "tasks:atlas", "options": {"n_prompts": 400}},
        "runner": {"shard_size": 5},
    }
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "jobs/pipeline.py", "--config", str(config), "--out", str(root), *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    driver = subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment | {"PYTHONPATH": str(REPOSITORY), "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + DEADLINE_S
    while not _receipts(root):
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    printed, _ = driver.communicate(timeout=60)
    assert driver.returncode == 130, printed
    assert "stopped; the same command goes on from here" in printed
    assert "Traceback" not in printed
    assert 0 < len(_receipts(root)) < 80


def _receipts(root: Path) -> list[Path]:
    return list(root.glob("shards/[!.]*.json"))
