"""Which paths may become a run, one driver at a time, and nothing left behind by an early error."""

import fcntl
import os
import socket
import time

import pytest

from tracer.errors import ArtifactError, RunError
from tracer.run.folder import RECORD_NAME, check_out, check_run_out, claimed, existing, local_database
from tracer.storage.json_files import read_json, write_json
from tracer.storage.store import open_store


def test_a_relative_path_is_resolved_outside_of_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_out("runs/demo") == tmp_path / "runs" / "demo"


@pytest.mark.parametrize("variable", ["RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR"])
def test_a_relative_path_is_refused_inside_a_ray_job(variable, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(RunError, match="relative path inside a Ray job"):
        check_out("runs/demo")
    assert check_out(tmp_path / "demo") == tmp_path / "demo"


def test_a_relative_path_is_refused_in_the_working_folder_of_a_ray_session(tmp_path, monkeypatch):
    folder = tmp_path / "working_dir_files" / "_ray_pkg_0123"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(RunError, match="relative path inside a Ray job"):
        check_out("demo")


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        check_out(tmp_path / "file" / "run")
    with pytest.raises(RunError, match="a URI"):
        check_out("s3://bucket/run")
    assert check_run_out("s3://bucket/run") == "s3://bucket/run"
    with pytest.raises(RunError, match="none given"):
        check_out(None)


def test_a_place_that_cannot_be_written_is_refused_with_one_message():
    # not even root can make a folder there
    with pytest.raises(RunError, match="expected a writable place"), claimed(check_out("/proc/tracer-run")):
        pass


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(RunError, match="cannot be written"):
        check_out(tmp_path / "run")


def test_a_folder_with_other_things_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"other things in it \(thesis.txt\)"), claimed(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def fail_in(root, *files):
    with claimed(root):
        for file in files:
            (root / file).parent.mkdir(exist_ok=True)
            (root / file).write_text("{}")
        raise KeyError


def test_an_error_before_run_json_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError):
        fail_in(tmp_path / "deep" / "run", "corpus/prompts-00000.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_error_before_run_json_empties_a_folder_that_was_there(tmp_path):
    with pytest.raises(KeyError):
        fail_in(tmp_path, "corpus.partial/prompts-00000.parquet")
    assert list(tmp_path.iterdir()) == []


def test_an_error_after_run_json_leaves_the_run(tmp_path):
    with pytest.raises(KeyError):
        fail_in(tmp_path / "run", "run.json")
    assert read_json(existing(tmp_path / "run"), RECORD_NAME) == {}


def test_what_a_driver_that_died_early_left_is_taken_over(tmp_path):
    (tmp_path / "corpus.partial").mkdir()
    (tmp_path / ".run.json.123.tmp").write_text("{")
    with claimed(tmp_path) as (folder, _):
        write_json(folder, RECORD_NAME, {})


def test_a_second_driver_is_refused_and_told_who_holds_the_lock(tmp_path):
    with claimed(tmp_path / "run") as (folder, _):
        write_json(folder, RECORD_NAME, {})
        with (
            pytest.raises(RunError, match=rf"\.lock: found another driver of this run: process {os.getpid()}"),
            claimed(folder.reference),
        ):
            pass
    with claimed(tmp_path / "run"):
        pass


def test_a_lock_that_its_last_holder_removed_in_between_is_made_anew(tmp_path, monkeypatch):
    lock, flock, removed = tmp_path / "run" / ".lock", fcntl.flock, []

    def flock_after_removal(file, operation):
        if not removed:
            removed.append(lock.unlink())
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_removal)
    with claimed(tmp_path / "run") as (folder, _):
        write_json(folder, RECORD_NAME, {})
        with pytest.raises(RunError, match="another driver of this run"), claimed(folder.reference):
            pass


def test_driver_sessions_are_counted_over_restarts(tmp_path):
    sessions = []
    for _ in range(12):
        with claimed(tmp_path / "run") as (folder, session):
            write_json(folder, RECORD_NAME, {})
            sessions.append(session)
    assert sessions == list(range(12))


def test_a_folder_without_run_json_is_no_run(tmp_path):
    with pytest.raises(ArtifactError, match=r"no run\.json"):
        existing(tmp_path)


def test_results_are_known_once_they_are_there(tmp_path):
    store = open_store(tmp_path)
    assert local_database(store) is None
    (tmp_path / "results.duckdb").touch()
    assert local_database(store) == tmp_path / "results.duckdb"


def test_who_drives_a_run_can_be_asked_and_asking_keeps_no_driver_out(tmp_path, monkeypatch):
    store = open_store(tmp_path / "run")
    assert store.lock.holder() is None
    with claimed(store.reference):
        write_json(store, RECORD_NAME, {})
        assert store.lock.holder() == f"process {os.getpid()} on {socket.gethostname()}"
    assert store.lock.holder() is None
    asking = (tmp_path / "run" / ".lock").open()
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: asking.close())
    with claimed(store.reference) as (_, session):
        assert session == 1
