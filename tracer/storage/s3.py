"""Amazon S3 and what speaks its protocol (MinIO, Ceph, R2 and others that support conditional writes).

Credentials, region and endpoint are those of the AWS SDKs: environment, profile, role of the machine. An endpoint of
one's own is AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
"""

import shutil
from functools import partial
from io import BufferedIOBase
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tracer.storage.objects import N_CONNECTIONS, asked, split_uri

MAX_ATTEMPTS = 10
"""Of each request, with pauses that grow: a store that asks to slow down means it."""

_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict"}
_ABSENT = {"NoSuchKey", "NotFound", "404"}
_CHUNK_BYTES = 2**20

_asked = partial(
    asked,
    errors=(Boto3Error, BotoCoreError, ClientError),
    check="bucket, credentials, region and, for a store that is not Amazon's, AWS_ENDPOINT_URL",
)


def open_objects(uri: str) -> "S3Client":
    """As `tracer.storage.objects.open_objects`, for s3://bucket/folder.

    Raises:
        RunError: as there.
    """
    bucket, prefix = split_uri(uri)

    def opened() -> Any:
        client = boto3.client(
            "s3",
            config=Config(
                retries={"mode": "standard", "max_attempts": MAX_ATTEMPTS},
                connect_timeout=10,
                read_timeout=60,
                max_pool_connections=N_CONNECTIONS,
                # stores that are not Amazon's refuse the checksums that newer clients add unasked
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        client.head_bucket(Bucket=bucket)
        return client

    return S3Client(_asked(uri, opened), bucket, prefix)


class S3Client:
    """As `Objects`; versions are ETags."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._uri = f"s3://{bucket}/{prefix}"

    def read(self, name: str) -> tuple[bytes, str] | None:
        """As `ObjectClient.read`."""

        def get() -> tuple[bytes, str]:
            answer = self._client.get_object(**self._object(name))
            return answer["Body"].read(), answer["ETag"]

        return _asked(f"{self._uri}/{name}", get, unless=_is_absent)

    def version(self, name: str) -> str | None:
        """As `ObjectClient.version`."""

        def head() -> str:
            return self._client.head_object(**self._object(name))["ETag"]

        return _asked(f"{self._uri}/{name}", head, unless=_is_absent)

    def create(self, name: str, content: bytes) -> str | None:
        """As `ObjectClient.create`."""

        def put() -> str:
            return self._client.put_object(**self._object(name), Body=content, IfNoneMatch="*")["ETag"]

        return _asked(f"{self._uri}/{name}", put, unless=_is_changed)

    def replace(self, name: str, content: bytes, version: str) -> str | None:
        """As `ObjectClient.replace`."""

        def put() -> str:
            return self._client.put_object(**self._object(name), Body=content, IfMatch=version)["ETag"]

        return _asked(f"{self._uri}/{name}", put, unless=_is_changed)

    def remove(self, name: str) -> None:
        """As `ObjectClient.remove`."""
        _asked(f"{self._uri}/{name}", lambda: self._client.delete_object(**self._object(name)))

    def list(self, folder: str) -> dict[str, int | None]:
        """As `Objects.list`."""
        inside = f"{self._prefix}/{folder}".rstrip("/") + "/"
        start = len(self._prefix) + 1

        def pages() -> dict[str, int | None]:
            found: dict[str, int | None] = {}
            paginator = self._client.get_paginator("list_objects_v2")
            for page in paginator.paginate(Bucket=self._bucket, Prefix=inside, Delimiter="/"):
                objects = {item["Key"]: item["Size"] for item in page.get("Contents", ()) if item["Key"] != inside}
                folders = {item["Prefix"].rstrip("/"): None for item in page.get("CommonPrefixes", ())}
                found |= {key[start:]: size for key, size in {**objects, **folders}.items()}
            return found

        return _asked(f"{self._uri}/{folder}", pages) or {}

    def download(self, name: str, file: BufferedIOBase) -> bool:
        """As `Objects.download`."""

        def get() -> bool:
            shutil.copyfileobj(self._client.get_object(**self._object(name))["Body"], file, _CHUNK_BYTES)
            return True

        return bool(_asked(f"{self._uri}/{name}", get, unless=_is_absent))

    def upload(self, name: str, file: BufferedIOBase) -> None:
        """As `Objects.upload`; one that fails takes its pieces away again."""
        _asked(f"{self._uri}/{name}", lambda: self._client.upload_fileobj(file, **self._object(name)))

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}"}


def _is_absent(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _ABSENT


def _is_changed(error: Exception) -> bool:
    return isinstance(error, ClientError) and error.response["Error"]["Code"] in _CHANGED | _ABSENT
