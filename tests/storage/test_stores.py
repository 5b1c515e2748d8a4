"""What every kind of store promises, on a real folder and a real S3 server."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tracer.errors import ArtifactError, RunError
from tracer.storage.json_files import read_json, write_json
from tracer.storage.store import Lock, Store, file_name, in_parallel, open_store, place
from tracer.storage.transfers import scratch_folder


def test_both_kinds_are_stores_with_a_lock(store):
    assert isinstance(store, Store)
    assert isinstance(store.lock, Lock)
    assert place(store, "shards/a.json") == f"{store.reference}/shards/a.json"
    assert file_name("shards/a.json") == "a.json"


def test_files_are_written_read_replaced_listed_and_removed(store):
    with pytest.raises(FileNotFoundError):
        store.read("shards/a.json")
    assert store.list() == store.list("shards") == {}
    store.write("shards/a.json", b"one")
    store.write("shards/a.json", b"other")
    store.write("shards/b.json", b"")
    store.write("run.json", b"{}")
    assert store.read("shards/a.json") == b"other"
    assert store.list("shards") == {"shards/a.json": 5, "shards/b.json": 0}
    assert store.list() == {"run.json": 2, "shards": None}
    assert store.has(["run.json", "shards/a.json"])
    assert not store.has(["run.json", "shards/c.json"])
    assert not store.has(["shards"])
    store.remove("shards/a.json")
    store.remove("shards/a.json")
    assert store.list("shards") == {"shards/b.json": 0}


def test_a_new_file_is_made_once(store):
    store.write("shards/a.json", b"one", new=True)
    with pytest.raises(FileExistsError):
        store.write("shards/a.json", b"other", new=True)
    assert store.read("shards/a.json") == b"one"


def test_files_far_larger_than_one_request_survive(store):
    content = os.urandom(12 * 2**20 + 1)
    store.write("parts/large.parquet", content)
    assert store.read("parts/large.parquet") == content
    assert store.list("parts") == {"parts/large.parquet": len(content)}


def test_fetched_files_lie_under_their_names_and_are_up_to_date(store):
    for keep in (True, False):
        store.write("corpus/a.parquet", b"one")
        with store.fetched(["corpus/a.parquet", "corpus/absent.parquet"], keep=keep) as root:
            assert (root / "corpus/a.parquet").read_bytes() == b"one"
            assert not (root / "corpus/absent.parquet").exists()
        store.write("corpus/a.parquet", b"other")
        with store.fetched(["corpus/a.parquet"], keep=keep) as root:
            assert (root / "corpus/a.parquet").read_bytes() == b"other"
    store.remove("corpus/a.parquet")
    with store.fetched(["corpus/a.parquet"]) as root:
        assert not (root / "corpus/a.parquet").exists()


def test_what_is_made_in_a_working_folder_is_in_the_store(store):
    store.write("page.html", b"old")
    with store.working("corpus", "page.html", copy=True) as root:
        assert (root / "page.html").read_bytes() == b"old"
        (root / "page.html").write_bytes(b"new")
        (root / "corpus").mkdir()
        (root / "corpus" / "a.parquet").write_bytes(b"made")
    assert store.read("page.html") == b"new"
    assert store.read("corpus/a.parquet") == b"made"
    assert set(store.list()) == {"corpus", "page.html"}


def test_what_a_killed_process_left_in_the_cache_is_removed(uri):
    store = open_store(uri)
    store.write("a", b"one")
    code = f"""
import os, signal
from tracer.storage.transfers import scratch_folder
from tracer.storage.store import open_store
with open_store({uri!r}).fetched(["a"], keep=False) as root:
    print(root, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert (left / "a").is_file()
    with store.fetched(["a"], keep=False) as root, store.fetched(["a"], keep=False) as other:
        assert not left.exists()
        assert (root / "a").is_file()
        assert (other / "a").is_file()


def test_scratch_folders_are_never_taken_from_who_is_in_them(tmp_path):
    def use(number: int) -> bool:
        with scratch_folder(tmp_path) as folder:
            (folder / "a").write_text(str(number))
            return (folder / "a").read_text() == str(number)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(use, range(400)))
    assert list(tmp_path.glob("scratch-*")) == []


def test_a_cache_that_cannot_be_made_is_an_error_that_names_it(uri, tmp_path, monkeypatch):
    store = open_store(uri)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRACER_CACHE", str(tmp_path / "file" / "cache"))
    for keep in (True, False):
        with pytest.raises(RunError, match="TRACER_CACHE"), store.fetched(["a"], keep=keep):
            pass


def test_errors_about_fetched_files_name_the_place_that_a_user_knows(store):
    with (
        pytest.raises(ArtifactError) as caught,
        store.fetched(["parts/a.parquet"], keep=False) as root,
    ):
        raise ArtifactError(str(root / "parts/a.parquet"), found="x", expected="y", to_do="Z.")
    assert caught.value.where == f"{store.reference}/parts/a.parquet"


def test_many_at_once_come_back_in_order(store):
    names = [f"shards/{number:02d}.json" for number in range(40)]
    list(in_parallel(store, lambda name: store.write(name, name.encode()), names))
    assert list(in_parallel(store, store.read, names)) == [name.encode() for name in names]


def test_json_is_replaced_as_a_whole_and_damage_is_refused(store):
    write_json(store, "data.json", {"a": 1})
    write_json(store, "data.json", {"a": "ä"})
    assert read_json(store, "data.json") == {"a": "ä"}
    assert store.list() == {"data.json": len('{\n "a": "ä"\n}'.encode())}
    store.write("data.json", b'{"a": ')
    with pytest.raises(ArtifactError, match="data.json"):
        read_json(store, "data.json")
    with pytest.raises(ArtifactError, match="absent.json"):
        read_json(store, "absent.json")


def test_the_lock_has_one_holder_counts_its_sessions_and_can_be_removed(store):
    say = [].append
    assert store.lock.holder() is None
    with store.lock.held(say) as session:
        assert session == 0
        assert str(os.getpid()) in store.lock.holder()
        store.write("run.json", b"{}")
    assert store.lock.holder() is None
    with open_store(store.reference).lock.held(say) as session:
        assert session == 1
    with store.lock.held(say):
        store.remove("run.json")
        store.lock.remove()
    assert store.list() == {}
    with store.lock.held(say) as session:
        assert session == 0


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("hdfs://host/run", "a URI of kind hdfs://; expected a local path, or one of s3://bucket/folder"),
        ("s3://bucket", "no bucket and folder"),
        ("s3:///folder", "no bucket and folder"),
        ("gs://bucket/", "no bucket and folder; expected gs://bucket/folder"),
        ("az://container/folder", "a URI of kind az://"),
        ("abfss://container@account.dfs.core.windows.net", "no bucket and folder; expected abfss://container@"),
        ("abfss://container/folder", "no container and account in container; expected container@account"),
        (
            "abfss://container@account.blob.core.windows.net/folder",
            "no container and account in container@account.blob",
        ),
    ],
)
def test_what_is_no_place_for_files_is_refused(reference, words):
    with pytest.raises(RunError, match=words):
        open_store(reference)
