"""`tracer status`, `verify` and `gc`, and the options of `tracer run` that make it visible, on a real small run."""

import json
import shutil

import pytest

from tests.test_cli import refusal, tracer, write_config
from tracer.tables.equality import compare_tables

SHARD_SIZE, N_PROMPTS = 4, 8


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Configuration, folder and log of a finished run of the demo model."""
    place = tmp_path_factory.mktemp("finished")
    config = write_config(place, runner={"shard_size": SHARD_SIZE})
    log = place / "log.jsonl"
    assert tracer("run", config, "--out", place / "run", "--inline", "--profile", "--log-file", log) == 0
    return config, place / "run", log


@pytest.fixture
def run(finished, tmp_path):
    """A copy that may be damaged."""
    config, root, _ = finished
    shutil.copytree(root, tmp_path / "run")
    return config, tmp_path / "run"


def parts_of(root, table):
    return sorted((root / "parts").glob(f"{table}-*.parquet"))


def test_status_says_how_far_a_run_is_for_people_and_for_programs(capsys, finished):
    _, root, _ = finished
    assert tracer("status", root, "--usd-per-hour", 3600) == 0
    printed = capsys.readouterr().out
    assert "run: done" in printed
    assert "shards 2/2, 0 left, 0 given up" in printed
    assert f"prompts {N_PROMPTS}/{N_PROMPTS}, " in printed
    assert "CPU-hours held " in printed
    assert " USD" in printed
    assert "2 shards, 8 prompts, busy " in printed
    assert "profile, seconds of all workers: forward " in printed
    assert tracer("status", root, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["state"], status["n_shards_done"], status["n_prompts_done"]) == ("done", 2, N_PROMPTS)
    assert set(status["phases"]) == {"forward", "encode", "rows", "prune", "write", "other"}
    (actor,) = status["actors"]
    assert actor["busy_seconds"] <= actor["held_seconds"] + 0.01


def test_the_log_of_a_run_has_a_line_for_every_shard(finished):
    _, root, log = finished
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    shards = {path.stem for path in (root / "shards").iterdir()}
    assert {line["shard"] for line in lines if line["event"] == "shard committed"} == shards
    assert (lines[0]["event"], lines[-1]["event"]) == ("driver started", "driver ended")


def test_a_whole_run_is_verified_and_has_no_garbage(capsys, finished):
    _, root, _ = finished
    assert tracer("verify", root) == 0
    assert (
        "2 of 2 shards committed, 26 parts read; results.duckdb looked at: nothing damaged" in capsys.readouterr().out
    )
    assert tracer("gc", root) == 0
    assert capsys.readouterr().out == "0 files, 0 bytes removed\n"


def test_damage_is_found_healed_by_tracing_the_shard_again_and_its_remains_are_collected(capsys, run, finished):
    config, root = run
    truncated, _ = parts_of(root, "nodes")
    truncated.write_bytes(truncated.read_bytes()[:-100])
    _, deleted = parts_of(root, "edges")
    deleted.unlink()
    assert tracer("verify", root) == 1
    printed = capsys.readouterr().out
    assert f"shard {truncated.name.split('-')[1]}, nodes: found " in printed
    assert f"shard {deleted.name.split('-')[1]}, edges: found " in printed
    assert printed.count("`tracer verify --heal` moves the shard's receipt away; then `tracer run`") == 2
    assert "2 damaged" in printed
    assert tracer("verify", "--heal", root) == 0
    assert "moved out of the way" in capsys.readouterr().out
    assert tracer("run", config, "--out", root, "--inline") == 0
    assert tracer("verify", root) == 0
    # Both shards were made anew, this time without a profile.
    assert compare_tables(finished[1] / "results.duckdb", root / "results.duckdb") == []
    old = [path for path in (root / "parts").iterdir() if path.name.endswith("-0.parquet")]
    size = sum(path.stat().st_size for path in old)
    capsys.readouterr()
    assert tracer("gc", root, "--dry-run") == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [*(str(path) for path in sorted(old)), f"{len(old)} files, {size:,} bytes would be removed"]
    assert tracer("gc", root) == 0
    assert not any(path.exists() for path in old)
    assert tracer("verify", root) == 0


@pytest.mark.parametrize("command", ["status", "verify", "gc"])
def test_a_folder_that_is_no_run_is_one_message(command, capsys, tmp_path):
    assert "found no run.json" in refusal(capsys, command, tmp_path)
    assert list(tmp_path.iterdir()) == []
