"""An Azure Blob Storage server for tests: Microsoft's Azurite, in a process of its own; `make azurite` installs it."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from tests.storage.failing import failing_before
from tests.storage.s3_server import REPOSITORY

CONTAINER = "container"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The key of every Azurite, which its documentation publishes."""

_PROGRAM = REPOSITORY / "runs" / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


@contextmanager
def started_azure(*, failures: float = 0.0) -> Iterator[dict[str, str]]:
    """A server with one container, of whose requests a share fails; gives what its clients need in their
    environment.
    """
    from azure.storage.blob import ContainerClient

    assert _PROGRAM.is_file(), f"no {_PROGRAM}: make azurite"
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    command = ["node", str(_PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", "0", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = next(found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", line)))
        connection = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT}"
        ContainerClient.from_connection_string(connection, CONTAINER).create_container()
        with failing_before(url, failures) if failures else nullcontext(url) as outer_url:
            yield {"AZURE_STORAGE_CONNECTION_STRING": connection.replace(url, outer_url)}
    finally:
        server.kill()
        server.wait()
