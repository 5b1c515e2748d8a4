"""A disk that is full for a while, under the workers and under the ledger."""

import errno
import io

import pytest
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run
from tracer.errors import RunError
from tracer.run import pipeline
from tracer.storage import local_store
from tracer.tables.equality import compare_tables


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    return finish(begin_tiny_run(root), root)[0].database


def finish(config, root):
    console = Console(file=io.StringIO(), width=300)
    result = pipeline.run(config, root, inline=True, console=console, make_worker=TinyWorker)
    return result, console.file.getvalue()


def full_at(monkeypatch, folder: str, numbers: set[int]) -> None:
    """Let the n-th files written below `folder` meet a full disk."""
    write_file, seen = local_store.write_file, []

    def write(path, content):
        if path.parent.name == folder:
            seen.append(path)
            if len(seen) in numbers:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_file(path, content)

    monkeypatch.setattr(local_store, "write_file", write)


def test_a_disk_that_is_full_under_a_worker_costs_attempts_and_changes_no_table(tmp_path, undisturbed, monkeypatch):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    full_at(monkeypatch, "parts", {1, 5, 17})
    result, printed = finish(config, root)
    assert printed.count("No space left on device") == 3
    assert (result.n_failures, result.n_shards_given_up) == (0, 0)
    assert compare_tables(undisturbed, result.database) == []


def test_a_disk_that_is_full_under_the_ledger_ends_the_run_which_then_goes_on(tmp_path, undisturbed, monkeypatch):
    root = tmp_path / "run"
    config = begin_tiny_run(root)
    with monkeypatch.context() as patched:
        full_at(patched, "shards", {2})
        with pytest.raises(RunError, match="No space left on device.*Make room"):
            finish(config, root)
    assert len(list((root / "shards").glob("*.json"))) == 1
    result, _ = finish(config, root)
    assert compare_tables(undisturbed, result.database) == []
