"""Google Cloud Storage.

Credentials are Google's application default ones: GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default
login`, the machine's service account. STORAGE_EMULATOR_HOST points to an emulator, which is asked without any.
"""

from functools import partial
from io import BufferedIOBase
from typing import Any

from google.api_core.exceptions import GoogleAPIError, NotFound, PreconditionFailed
from google.auth.exceptions import GoogleAuthError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException

from tracer.storage.objects import N_CONNECTIONS, PIECE_BYTES, asked, split_uri

RETRY_S = 120.0
"""How long each request is tried again, with pauses that double; Google's client counts time, not attempts."""

_BINARY = "application/octet-stream"
_asked = partial(
    asked,
    errors=(DataCorruption, GoogleAPIError, GoogleAuthError, InvalidResponse, RequestException),
    check="bucket, credentials (gcloud auth application-default login) and, for an emulator, STORAGE_EMULATOR_HOST",
)


def open_objects(uri: str) -> "GcsClient":
    """As `tracer.storage.objects.open_objects`, for gs://bucket/folder.

    Raises:
        RunError: as there.
    """
    bucket, prefix = split_uri(uri)

    def opened() -> Any:
        client = storage.Client(project=None)
        for scheme in ("http://", "https://"):
            client._http.mount(scheme, HTTPAdapter(pool_maxsize=N_CONNECTIONS))
        # to look at the bucket itself would take a right that whoever may use its objects need not have
        next(iter(client.list_blobs(bucket, max_results=1, retry=_retry())), None)
        return client.bucket(bucket)

    return GcsClient(_asked(uri, opened), prefix)


class GcsClient:
    """As `Objects`; versions are generations."""

    def __init__(self, bucket: Any, prefix: str) -> None:
        self._bucket, self._prefix = bucket, prefix
        self._uri = f"gs://{bucket.name}/{prefix}"

    def read(self, name: str) -> tuple[bytes, str] | None:
        """As `ObjectClient.read`."""

        def get() -> tuple[bytes, str]:
            blob = self._blob(name)
            content = blob.download_as_bytes(retry=_retry())
            return content, str(blob.generation)

        return _asked(f"{self._uri}/{name}", get, unless=_is_absent)

    def version(self, name: str) -> str | None:
        """As `ObjectClient.version`."""

        def look() -> str:
            blob = self._blob(name)
            blob.reload(retry=_retry())
            return str(blob.generation)

        return _asked(f"{self._uri}/{name}", look, unless=_is_absent)

    def create(self, name: str, content: bytes) -> str | None:
        """As `ObjectClient.create`."""
        return _asked(f"{self._uri}/{name}", lambda: _put(self._blob(name), content, 0), unless=_is_changed)

    def replace(self, name: str, content: bytes, version: str) -> str | None:
        """As `ObjectClient.replace`."""
        return _asked(f"{self._uri}/{name}", lambda: _put(self._blob(name), content, int(version)), unless=_is_changed)

    def remove(self, name: str) -> None:
        """As `ObjectClient.remove`."""
        _asked(f"{self._uri}/{name}", lambda: self._blob(name).delete(retry=_retry()), unless=_is_absent)

    def list(self, folder: str) -> dict[str, int | None]:
        """As `Objects.list`."""
        inside = f"{self._prefix}/{folder}".rstrip("/") + "/"
        start = len(self._prefix) + 1

        def pages() -> dict[str, int | None]:
            blobs = self._bucket.list_blobs(prefix=inside, delimiter="/", retry=_retry())
            found: dict[str, int | None] = {blob.name[start:]: blob.size for blob in blobs if blob.name != inside}
            return found | {name[start:].rstrip("/"): None for name in blobs.prefixes}

        return _asked(f"{self._uri}/{folder}", pages) or {}

    def download(self, name: str, file: BufferedIOBase) -> bool:
        """As `Objects.download`."""

        def get() -> bool:
            self._blob(name).download_to_file(file, retry=_retry())
            return True

        return bool(_asked(f"{self._uri}/{name}", get, unless=_is_absent))

    def upload(self, name: str, file: BufferedIOBase) -> None:
        """As `Objects.upload`."""

        def put() -> None:
            blob = self._blob(name)
            blob.chunk_size = PIECE_BYTES
            blob.upload_from_file(file, content_type=_BINARY, retry=_retry())

        _asked(f"{self._uri}/{name}", put)

    def _blob(self, name: str) -> Any:
        return self._bucket.blob(f"{self._prefix}/{name}")


def _put(blob: Any, content: bytes, generation: int) -> str:
    blob.upload_from_string(content, _BINARY, if_generation_match=generation, retry=_retry())
    return str(blob.generation)


def _retry() -> Any:
    return DEFAULT_RETRY.with_timeout(RETRY_S)


def _is_absent(error: Exception) -> bool:
    return isinstance(error, NotFound)


def _is_changed(error: Exception) -> bool:
    return isinstance(error, NotFound | PreconditionFailed)
