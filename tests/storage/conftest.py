"""One S3 server for all tests of a session, and a cache of its own."""

import uuid

import pytest

from tests.storage.s3_server import BUCKET, in_environment, started_s3
from tracer.storage.store import open_store


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """Environment of clients of a running S3 server; set while the session lasts."""
    with started_s3() as environment:
        values = {**environment, "TRACER_CACHE": str(tmp_path_factory.mktemp("cache"))}
        with in_environment(values):
            yield values


@pytest.fixture
def uri(s3):
    """A place in a bucket where nothing is yet."""
    return f"s3://{BUCKET}/runs/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(tmp_path / "run")
    return open_store(request.getfixturevalue("uri"))
