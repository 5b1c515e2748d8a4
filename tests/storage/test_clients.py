"""The stores' own clients against real servers: conditions, files that break off, answers that never come."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.storage.kinds import BUCKETS, IMPATIENT, STARTED
from tests.storage.s3_server import in_environment
from tracer.errors import RunError
from tracer.storage import objects
from tracer.storage.objects import Objects, asked, open_objects

LARGE = 20 * 2**20
"""Bytes of what each client sends in pieces."""


@pytest.fixture
def client(uri):
    return open_objects(uri)


class BreaksOff(io.BytesIO):
    """A file that cannot be read beyond its half."""

    def read(self, size=-1):
        if size < 0 or self.tell() + size > LARGE // 2:
            raise OSError("Input/output error")
        return super().read(size)


def test_objects_are_made_once_and_replaced_by_whom_saw_the_latest(client):
    assert isinstance(client, Objects)
    assert client.read("a") is client.version("a") is None
    first = client.create("a", b"one")
    assert client.create("a", b"other") is None
    assert client.read("a") == (b"one", first)
    second = client.replace("a", b"other", first)
    assert client.replace("a", b"third", first) is None
    assert client.version("a") == second
    client.remove("a")
    client.remove("a")
    assert client.replace("a", b"third", second) is None
    assert client.create("a", b"") is not None
    assert client.read("a") == (b"", client.version("a"))


def test_of_many_that_write_at_once_one_succeeds(client):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: client.create("a", b"%d" % number), range(24)))
        (first,) = filter(None, made)
        replaced = list(pool.map(lambda number: client.replace("a", b"then %d" % number, first), range(24)))
    (second,) = filter(None, replaced)
    assert client.read("a") == (b"then %d" % replaced.index(second), second)


def test_a_file_whose_source_breaks_off_leaves_what_was_there(client):
    with pytest.raises((OSError, RunError), match="Input/output error"):
        client.upload("a", BreaksOff(bytes(LARGE)))
    assert client.list("") == {}
    client.upload("a", io.BytesIO(b"whole"))
    with pytest.raises((OSError, RunError), match="Input/output error"):
        client.upload("a", BreaksOff(bytes(LARGE)))
    assert client.read("a")[0] == b"whole"
    file = io.BytesIO()
    assert client.download("a", file)
    assert file.getvalue() == b"whole"
    assert not client.download("b", file)


def test_a_package_that_is_not_installed_is_named_with_its_extra(kind, monkeypatch):
    package, extra = objects._KINDS[kind].package, objects._KINDS[kind].extra
    monkeypatch.setitem(objects._KINDS, kind, objects._KINDS[kind]._replace(module="tracer.storage.absent"))
    with pytest.raises(RunError, match=rf"no package {package}; .* pip install 'tracer\[{extra}\]'"):
        open_objects(f"{BUCKETS[kind]}/run")


def test_a_bucket_that_is_not_there_is_refused_in_one_line(kind):
    uri = BUCKETS[kind].replace("://", "://no-such-") + "/run"
    with pytest.raises(RunError, match=f"^{uri}: found .*; expected storage that answers. Check ") as caught:
        open_objects(uri)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_gone_is_an_error_in_one_line(kind, monkeypatch):
    with STARTED[kind]() as environment:
        pass
    monkeypatch.setattr(*IMPATIENT[kind])
    uri = f"{BUCKETS[kind]}/run"
    with in_environment(environment), pytest.raises(RunError, match=f"^{uri}: found ") as caught:
        open_objects(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ("AccountName=other;AccountKey=c2VjcmV0", "found one of account other .* expected .* of account account"),
        ("AccountKey=c2VjcmV0", "found none that can be read in AZURE_STORAGE_CONNECTION_STRING"),
        (
            "BlobEndpoint=http://127.0.0.1:1/account;SharedAccessSignature=sv=2030&sig=c2VjcmV0&se=2040",
            "found .*Connection refused",
        ),
    ],
)
def test_secrets_of_a_connection_string_are_never_told(connection, words, monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    monkeypatch.setattr(*IMPATIENT["abfss"])
    with pytest.raises(RunError, match=words) as caught:
        open_objects("abfss://container@account.dfs.core.windows.net/run")
    assert "c2VjcmV0" not in str(caught.value)


def test_the_query_of_a_url_which_may_be_signed_is_left_out_of_errors():
    def ask():
        raise ValueError("GET https://host/a?sig=c2VjcmV0&x=1: refused.\nRequest id: 7")

    with pytest.raises(RunError, match="found GET https://host/a refused; expected") as caught:
        asked("s3://bucket/run", ask, errors=(ValueError,), check="it")
    assert "c2VjcmV0" not in str(caught.value)


def test_credentials_that_are_missing_are_an_error_that_says_how_to_get_them(monkeypatch, tmp_path):
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(RunError, match="default credentials were not found.*gcloud auth application-default login"):
        open_objects("gs://bucket/run")
