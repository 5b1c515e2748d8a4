"""Runs in object stores, on real servers: the tables of a run in a local folder, whatever fails on the way."""

import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
import uuid
from dataclasses import replace

import pytest
from rich.console import Console

from tests.run.tiny_worker import TinyWorker, begin_tiny_run, faulty, record_of
from tests.storage.failing import COUNT_PATH
from tests.storage.kinds import BUCKETS, STARTED
from tests.storage.s3_server import BUCKET, REPOSITORY, in_environment, started_s3
from tracer.cli import main
from tracer.cli.printing import database_of
from tracer.errors import ArtifactError, RunError
from tracer.run import pipeline
from tracer.run.ledger import Ledger
from tracer.run.status import read_status
from tracer.run.verifying import heal, verify
from tracer.storage.store import open_store
from tracer.tables.equality import compare_tables


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A run that was begun, in a local folder: its configuration and that folder."""
    root = tmp_path_factory.mktemp("begun") / "run"
    return begin_tiny_run(root, lease_s=2.0), root


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "run"
    return finish(begin_tiny_run(root), root).database


def kind(scheme: str, failures: float, *, slow: bool = True):
    """A kind of object store, of whose requests a share fails."""
    name = f"failing-{scheme}" if failures else scheme
    return pytest.param((scheme, failures), id=name, marks=[pytest.mark.slow] if slow else [])


S3 = [kind("s3", 0.0), kind("s3", 0.05, slow=False)]
AZURE = [kind("abfss", 0.0), kind("abfss", 0.05)]


@pytest.fixture(scope="module", params=[*S3, kind("gs", 0.0), kind("gs", 0.05), *AZURE])
def server(request, tmp_path_factory):
    """A bucket of a running server, and where the server counts its failures, if it has any."""
    scheme, failures = request.param
    with STARTED[scheme](failures=failures) as environment:
        cache = {"TRACER_CACHE": str(tmp_path_factory.mktemp("cache"))}
        with in_environment(environment | cache):
            url = re.search(r"http://127\.0\.0\.1:\d+", " ".join(environment.values()))
            yield BUCKETS[scheme], url[0] if failures else None


@pytest.fixture
def begun(server, tiny):
    """Configuration and URI of a run that was begun."""
    config, root = tiny
    uri = f"{server[0]}/{uuid.uuid4().hex}/run"
    store = open_store(uri)
    for path in root.rglob("*"):
        if path.is_file():
            store.write(path.relative_to(root).as_posix(), path.read_bytes())
    return config, uri


def finish(config, reference, make_worker=TinyWorker):
    console = Console(file=io.StringIO(), width=200)
    return pipeline.run(config, reference, inline=True, console=console, make_worker=make_worker)


def n_failed(server: str | None) -> int:
    if server is None:
        return 0
    with urllib.request.urlopen(server + COUNT_PATH, timeout=10) as answer:
        return int(answer.read())


@pytest.mark.parametrize("server", [*S3, kind("gs", 0.0, slow=False), kind("gs", 0.05), *AZURE], indirect=True)
def test_a_run_in_an_object_store_has_the_tables_of_one_in_a_folder(begun, server, undisturbed, capsys):
    config, uri = begun
    n_before = n_failed(server[1])
    result = finish(config, uri)
    assert (result.root, result.n_graphs, result.n_failures) == (uri, 24, 0)
    assert compare_tables(undisturbed, result.database) == []
    store = open_store(uri)
    names = {"run.json", "results.duckdb", "page.html", ".lock", "corpus", "parts", "shards", "aggregates"}
    assert set(store.list()) == names
    before = store.read("results.duckdb")
    assert finish(config, uri).n_graphs == 24
    assert store.read("results.duckdb") == before
    assert verify(uri).damages == ()
    status = read_status(uri)
    assert (status.state, status.n_shards_done, status.n_graphs) == ("done", 4, 24)
    main_ends(["sql", uri, "SELECT count(*) AS n FROM graphs", "--format", "csv"])
    assert capsys.readouterr().out.split() == ["n", "24"]
    main_ends(["label", uri])
    main_ends(["show", uri])
    assert f"{uri}/page.html" in capsys.readouterr().out
    assert compare_tables(undisturbed, finish(config, uri).database) == []
    assert server[1] is None or n_failed(server[1]) > n_before


class Watching:
    """Remembers what became true."""

    def __init__(self, told: list) -> None:
        self._told = told

    def committed(self, receipt) -> None:
        self._told.append(receipt)

    def gave_up(self, error) -> None:
        self._told.append(error)


def main_ends(arguments: list[str]) -> None:
    """The command ends well."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0


def test_a_shard_that_fails_or_dies_in_writing_is_tried_again(begun, undisturbed, tmp_path):
    config, uri = begun
    result = finish(config, uri, faulty("raise", tmp_path / "fault", number=7, n_times=2))
    assert compare_tables(undisturbed, result.database) == []


def test_damage_is_found_and_healed_and_garbage_removed(begun, undisturbed, capsys):
    config, uri = begun
    finish(config, uri)
    store = open_store(uri)
    shards = record_of(uri).shards
    receipts = Ledger(store).committed(shards)
    nodes = receipts[shards[1].shard_id].parts["nodes"].path
    store.write(nodes, store.read(nodes)[:-20])
    store.remove(receipts[shards[2].shard_id].parts["edges"].path)
    found = {(damage.shard_id, damage.table) for damage in verify(uri).damages}
    assert found >= {(shards[1].shard_id, "nodes"), (shards[2].shard_id, "edges")}
    heal(uri)
    assert len(Ledger(store).committed(shards)) == 2
    assert compare_tables(undisturbed, finish(config, uri).database) == []
    assert verify(uri).damages == ()
    n_parts = len(store.list("parts"))
    main_ends(["gc", uri])
    assert "removed" in capsys.readouterr().out
    assert len(store.list("parts")) < n_parts
    assert verify(uri).damages == ()


def test_a_second_driver_is_refused_and_a_receipt_is_never_replaced(begun, undisturbed):
    config, uri = begun
    code = f"""
import time
from tracer.run.folder import claimed
with claimed({uri!r}, lease_s=2.0):
    print("held", flush=True)
    time.sleep(1e6)
"""
    other = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"another driver of this run: process {other.pid}"):
        finish(config, uri)
    other.kill()
    other.wait()
    store, shards = open_store(uri), record_of(uri).shards
    result = finish(config, uri)
    receipt = Ledger(store).committed(shards)[shards[0].shard_id]
    told = []
    ledger = Ledger(store)
    ledger.watchers.append(Watching(told))
    ledger.commit(replace(receipt, attempt=77), run_seconds=99.0)
    assert told == [receipt], "what a driver wrote that was put aside counts, and not what comes second"
    assert Ledger(store).committed(shards)[shards[0].shard_id] == receipt
    assert compare_tables(undisturbed, result.database) == []


def test_a_driver_that_lost_its_place_commits_nothing_more(begun, undisturbed):
    config, uri = begun
    store = open_store(uri)

    class Usurped(TinyWorker):
        """While its second shard is traced, the lease goes to somebody else."""

        def trace(self, prompts, shard_id, attempt, **named):
            if len(store.list("shards")) == 1:
                lease = json.loads(store.read(".lock"))
                store.write(".lock", json.dumps(lease | {"token": "another", "pid": 1}).encode())
                time.sleep(1.5)
            return super().trace(prompts, shard_id, attempt, **named)

    with pytest.raises(RunError, match="another one took its place"):
        finish(config, uri, Usurped)
    assert len(store.list("shards")) == 1
    assert compare_tables(undisturbed, finish(config, uri).database) == []


def test_what_is_no_run_is_refused(server):
    with pytest.raises(ArtifactError, match=r"found no run\.json"):
        read_status(f"{server[0]}/nothing-here")
    with pytest.raises(ArtifactError, match=r"nothing-here/results\.duckdb: found no such file"):
        database_of(f"{server[0]}/nothing-here")


@pytest.mark.slow
@pytest.mark.faults
def test_the_demo_run_killed_and_resumed_in_a_failing_store_has_the_tables_of_one_in_a_folder(
    demo_run, tmp_path, capsys
):
    uri = f"s3://{BUCKET}/demo/{demo_run.name}"
    command = [sys.executable, "-m", "tracer", "run", "configs/demo.yaml", "--out", uri]
    with started_s3(failures=0.05) as server:
        environment = {**os.environ, **server, "TRACER_CACHE": str(tmp_path / "cache")}
        with in_environment(environment):
            killed = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
            wait_for_receipts(uri, killed, 5)
            killed.kill()
            killed.wait()
            assert 5 <= len(open_store(uri).list("shards")) < len(record_of(uri).shards)
            done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            assert "may still drive this run" in done.stdout
            assert f"{uri}/results.duckdb" in done.stdout
            with open_store(uri).fetched(["results.duckdb"]) as root:
                assert compare_tables(demo_run / "results.duckdb", root / "results.duckdb") == []
            assert verify(uri).damages == ()
            main_ends(["sql", uri, "SELECT count(*) AS n FROM graphs", "--format", "csv"])
            assert capsys.readouterr().out.split() == ["n", "2048"]
        assert n_failed(server["AWS_ENDPOINT_URL"]) > 20


def wait_for_receipts(uri: str, driver: subprocess.Popen, n: int) -> None:
    deadline = time.monotonic() + 240
    while len(open_store(uri).list("shards")) < n:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.5)
