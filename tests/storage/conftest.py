"""One server of each kind of object store for all tests of a session, and a cache of its own."""

import uuid
from contextlib import ExitStack
from functools import cache

import pytest

from tests.storage.kinds import BUCKETS, OBJECT_STORES, STARTED
from tests.storage.s3_server import in_environment
from tracer.storage.store import open_store


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """Starts the server of a kind of object store where none runs yet; the environment of its clients is set while the
    session lasts.
    """
    with ExitStack() as stack:
        stack.enter_context(in_environment({"TRACER_CACHE": str(tmp_path_factory.mktemp("cache"))}))

        @cache
        def start(kind):
            stack.enter_context(in_environment(stack.enter_context(STARTED[kind]())))

        yield start


@pytest.fixture(params=OBJECT_STORES)
def kind(request, served):
    """The scheme of a kind of object store, whose server runs."""
    served(request.param)
    return request.param


@pytest.fixture
def uri(kind):
    """A place in a bucket where nothing is yet."""
    return f"{BUCKETS[kind]}/runs/{uuid.uuid4().hex}"


@pytest.fixture(params=["local", *OBJECT_STORES])
def store(request, served, tmp_path):
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(tmp_path / "run")
    served(request.param)
    return open_store(f"{BUCKETS[request.param]}/runs/{uuid.uuid4().hex}")
