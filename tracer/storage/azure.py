"""Azure Blob Storage and Data Lake Storage, by the URIs of the latter, which name account and container.

Where AZURE_STORAGE_CONNECTION_STRING is set, it says how the account is reached: by a key, a signature, at an emulator.
Else credentials are those of Azure's SDKs: environment, managed identity, `az login`.
"""

import os
from functools import partial
from io import BufferedIOBase
from typing import Any, cast

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.storage.blob import BlobPrefix, ContainerClient, ExponentialRetry

from tracer.errors import RunError
from tracer.storage.objects import PIECE_BYTES, asked, split_uri

CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
MAX_ATTEMPTS = 10
"""Of each request, with pauses that grow."""

_PAUSE_GROWTH = 1.6
_asked = partial(
    asked,
    errors=(AzureError,),
    check=f"account, container, credentials (az login) and, where one is set, {CONNECTION_VARIABLE}",
)


def open_objects(uri: str) -> "AzureClient":
    """As `tracer.storage.objects.open_objects`, for abfss://container@account.dfs.core.windows.net/folder.

    Raises:
        RunError: as there, or the connection string is another account's.
    """
    place, prefix = split_uri(uri)
    container, _, host = place.partition("@")
    account, _, domain = host.partition(".dfs.")
    if not (container and account and domain):
        raise RunError(
            uri, found=f"no container and account in {place}", expected="container@account.dfs.core.windows.net",
            to_do="Name both, in this way.",
        )  # fmt: skip

    client = _container_client(uri, container, account, domain)
    # to look at the container itself would take a right that whoever may use its blobs need not have
    first = client.list_blobs(name_starts_with=f"{prefix}/", results_per_page=1).by_page()
    _asked(uri, lambda: next(first, None))
    return AzureClient(client, uri, prefix)


def _container_client(uri: str, container: str, account: str, domain: str) -> ContainerClient:
    settings: dict[str, Any] = {
        "retry_policy": ExponentialRetry(
            initial_backoff=0,
            increment_base=cast("int", _PAUSE_GROWTH),  # a float serves
            retry_total=MAX_ATTEMPTS - 1,
            random_jitter_range=1,
        ),
        "max_single_put_size": PIECE_BYTES,
        "max_block_size": PIECE_BYTES,
    }
    connection = os.environ.get(CONNECTION_VARIABLE)
    if not connection:
        settings["credential"] = DefaultAzureCredential()
        return ContainerClient(f"https://{account}.blob.{domain}", container, **settings)
    try:
        client = ContainerClient.from_connection_string(connection, container, **settings)
    except ValueError:  # its words might hold what must stay secret
        found = "none that can be read"
    else:
        if client.account_name == account:
            return client
        found = f"one of account {client.account_name}"
    raise RunError(
        uri, found=f"{found} in {CONNECTION_VARIABLE}", expected=f"a connection string of account {account}",
        to_do=f"Set {CONNECTION_VARIABLE} to that account's, or unset it.",
    ) from None  # fmt: skip


class AzureClient:
    """As `Objects`; versions are ETags."""

    def __init__(self, container: ContainerClient, uri: str, prefix: str) -> None:
        self._container, self._uri, self._prefix = container, uri, prefix

    def read(self, name: str) -> tuple[bytes, str] | None:
        """As `ObjectClient.read`."""

        def get() -> tuple[bytes, str]:
            answer = self._blob(name).download_blob()
            return answer.readall(), answer.properties.etag

        return _asked(f"{self._uri}/{name}", get, unless=_is_absent)

    def version(self, name: str) -> str | None:
        """As `ObjectClient.version`."""

        def look() -> str:
            return self._blob(name).get_blob_properties().etag

        return _asked(f"{self._uri}/{name}", look, unless=_is_absent)

    def create(self, name: str, content: bytes) -> str | None:
        """As `ObjectClient.create`."""

        def put() -> str:
            return self._blob(name).upload_blob(content)["etag"]

        return _asked(f"{self._uri}/{name}", put, unless=_is_changed)

    def replace(self, name: str, content: bytes, version: str) -> str | None:
        """As `ObjectClient.replace`."""
        condition = {"etag": version, "match_condition": MatchConditions.IfNotModified}

        def put() -> str:
            return self._blob(name).upload_blob(content, overwrite=True, **condition)["etag"]

        return _asked(f"{self._uri}/{name}", put, unless=_is_changed)

    def remove(self, name: str) -> None:
        """As `ObjectClient.remove`."""
        _asked(f"{self._uri}/{name}", lambda: self._blob(name).delete_blob(), unless=_is_absent)

    def list(self, folder: str) -> dict[str, int | None]:
        """As `Objects.list`."""
        inside = f"{self._prefix}/{folder}".rstrip("/") + "/"
        start = len(self._prefix) + 1

        def pages() -> dict[str, int | None]:
            found = self._container.walk_blobs(name_starts_with=inside, delimiter="/")
            return {
                item.name[start:].rstrip("/"): None if isinstance(item, BlobPrefix) else item.size for item in found
            }

        return _asked(f"{self._uri}/{folder}", pages) or {}

    def download(self, name: str, file: BufferedIOBase) -> bool:
        """As `Objects.download`."""

        def get() -> bool:
            self._blob(name).download_blob().readinto(file)
            return True

        return bool(_asked(f"{self._uri}/{name}", get, unless=_is_absent))

    def upload(self, name: str, file: BufferedIOBase) -> None:
        """As `Objects.upload`."""
        _asked(f"{self._uri}/{name}", lambda: self._blob(name).upload_blob(file, overwrite=True))

    def _blob(self, name: str) -> Any:
        return self._container.get_blob_client(f"{self._prefix}/{name}")


def _is_absent(error: Exception) -> bool:
    is_container = getattr(error, "error_code", None) == "ContainerNotFound"
    return isinstance(error, ResourceNotFoundError) and not is_container


def _is_changed(error: Exception) -> bool:
    return isinstance(error, ResourceExistsError | ResourceModifiedError) or _is_absent(error)
