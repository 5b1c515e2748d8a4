"""S3's own client against a real server, with answers that never come."""

import pytest

from tests.storage.s3_server import BUCKET, in_environment, started_s3
from tracer.errors import RunError
from tracer.storage import objects
from tracer.storage.objects import ObjectClient, open_objects


@pytest.fixture
def client(uri):
    return open_objects(uri).client


def test_objects_are_made_once_and_replaced_by_whom_saw_the_latest(client):
    assert isinstance(client, ObjectClient)
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
    assert client.read("a") is None


def test_a_package_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(objects._KINDS, "s3", ("tracer.storage.absent", "boto3", "s3"))
    with pytest.raises(RunError, match=r"no package boto3; .* pip install 'tracer\[s3\]'"):
        open_objects("s3://bucket/run")


def test_a_server_that_is_gone_is_an_error_in_one_line(s3):
    with started_s3() as environment:
        pass
    with (
        in_environment(environment | {"AWS_MAX_ATTEMPTS": "1"}),
        pytest.raises(RunError, match="s3://bucket/run: found"),
    ):
        open_objects(f"s3://{BUCKET}/run")
