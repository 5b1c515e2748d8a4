"""Garbage is what no receipt names, and nothing else."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, record_of
from tracer.errors import ArtifactError, RunError
from tracer.run import pipeline
from tracer.run.backlog import Assignment
from tracer.run.collecting import collect_garbage
from tracer.run.folder import claimed
from tracer.run.ledger import Ledger
from tracer.run.verifying import heal, verify
from tracer.run.work import ShardRunner
from tracer.storage.store import open_store


@pytest.fixture
def run(tmp_path):
    """A traced run of two shards, with what a killed attempt at the first one left."""
    root = tmp_path / "a" / "run"
    root.parent.mkdir()
    config = begin_tiny_run(root, n_prompts=12)
    pipeline.trace(config, root, inline=True, console=Console(file=io.StringIO()), make_worker=TinyWorker)
    runner = ShardRunner(root, config, TinyWorker)
    runner.start()
    receipt = runner.run_shard(Assignment(record_of(root).shards[0], 77))
    orphans = {root / part.path for part in receipt.parts.values()}
    temporary = {
        root / "parts" / ".nodes-0123456789abcdef-3.parquet.4711.tmp",
        root / "shards" / ".0123456789abcdef.json.4711.tmp",
        root / ".results.duckdb.4711.tmp",
        root / ".results.duckdb.4711.tmp.wal",
        root / "aggregates" / ".results.json.12.tmp",
    }
    for path in temporary:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
    return root, orphans, temporary


def files(root):
    return {path for path in root.rglob("*") if path.is_file() and path.name != ".lock"}


def test_looking_names_orphans_and_their_size_and_removes_nothing(run):
    root, orphans, temporary = run
    before = files(root)
    garbage = collect_garbage(root, remove=False)
    assert set(garbage.paths) == {str(path) for path in orphans | temporary}
    assert garbage.n_bytes == sum(path.stat().st_size for path in orphans | temporary)
    assert files(root) == before


def test_what_is_removed_leaves_a_whole_run_and_foreign_files(run):
    root, orphans, temporary = run
    foreign = {root / "parts" / "notes.parquet", root / "parts" / "failures-run-0.parquet", root / ".hidden.tmp"}
    for path in foreign:
        path.write_bytes(b"mine")
    before = files(root)
    collect_garbage(root, remove=True)
    assert files(root) == before - orphans - temporary
    assert verify(root).damages == ()
    assert collect_garbage(root, remove=True).paths == ()


def test_parts_of_a_damaged_shard_are_garbage_once_its_receipt_was_moved_away(run):
    root, orphans, temporary = run
    shard = record_of(root).shards[1]
    parts = Ledger(open_store(root)).committed((shard,))[shard.shard_id].parts
    (root / parts["nodes"].path).unlink()
    heal(root)
    lost = {root / part.path for name, part in parts.items() if name != "nodes"}
    assert set(collect_garbage(root, remove=False).paths) == {str(path) for path in orphans | temporary | lost}


def test_what_a_worker_killed_while_it_wrote_left_is_removed(run):
    root, orphans, temporary = run
    whole = files(root) - orphans - temporary
    code = f"""
import os, signal
from pathlib import Path
from tests.run.tiny_worker import TinyWorker, record_of
from tracer.run.backlog import Assignment
from tracer.run.work import ShardRunner

root, fsync, n_calls = Path({str(root)!r}), os.fsync, 0
runner = ShardRunner(root, record_of(root).config, TinyWorker)
runner.start()

def die_at_the_fourth_part(file):  # a part takes two: file and folder
    global n_calls
    n_calls += 1
    if n_calls == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(file)

os.fsync = die_at_the_fourth_part
runner.run_shard(Assignment(record_of(root).shards[1], 5))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = files(root) - whole - orphans - temporary
    assert sorted(path.suffix for path in left) == [".parquet"] * 3 + [".tmp"]
    assert set(collect_garbage(root, remove=True).paths) == {str(path) for path in orphans | temporary | left}
    assert files(root) == whole


def test_nothing_is_removed_while_a_driver_works_or_a_receipt_cannot_be_read(run):
    root, _, _ = run
    before = files(root)
    with claimed(root), pytest.raises(RunError, match="another driver of this run"):
        collect_garbage(root, remove=True)
    path = next((root / "shards").glob("[!.]*.json"))
    path.write_text(path.read_text()[:99])
    with pytest.raises(ArtifactError, match=path.name):
        collect_garbage(root, remove=True)
    assert files(root) == before
