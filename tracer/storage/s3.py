"""Amazon S3 and what speaks its protocol (MinIO, Ceph, R2 and others that support conditional writes).

Credentials, region and endpoint are those of the AWS SDKs: environment, profile, role of the machine. An endpoint of
one's own is AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

from tracer.errors import RunError
from tracer.storage.objects import Objects, split_uri

MAX_ATTEMPTS = 10
"""Of each request, by either client, with pauses that grow: a store that asks to slow down means it."""
_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict"}
_ABSENT = {"NoSuchKey", "NotFound", "404"}


def open_objects(uri: str) -> Objects:
    """As `tracer.storage.objects.open_objects`, for s3://bucket/folder.

    Raises:
        RunError: as there, or there is no such bucket.
    """
    bucket, prefix = split_uri(uri)
    with _told(uri):
        client = boto3.client(
            "s3",
            config=Config(
                retries={"mode": "standard", "max_attempts": MAX_ATTEMPTS},
                connect_timeout=10,
                read_timeout=60,
                # stores that are not Amazon's refuse the checksums that newer clients add unasked
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        region = client.head_bucket(Bucket=bucket).get("BucketRegion") or client.meta.region_name
    endpoint = urlsplit(client.meta.endpoint_url)
    is_own = not (endpoint.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
    filesystem = S3FileSystem(
        region=region,
        allow_delayed_open=True,  # small files in one request, and none for what is never closed
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
        **({"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if is_own else {}),
    )
    return Objects(filesystem=filesystem, base=f"{bucket}/{prefix}", client=S3Client(client, bucket, prefix))


class S3Client:
    """As `ObjectClient`; versions are ETags."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix

    def read(self, name: str) -> tuple[bytes, str] | None:
        """As `ObjectClient.read`."""

        def get() -> tuple[bytes, str]:
            answer = self._client.get_object(**self._object(name))
            return answer["Body"].read(), answer["ETag"]

        return self._unless(_ABSENT, name, get)

    def version(self, name: str) -> str | None:
        """As `ObjectClient.version`."""
        return self._unless(_ABSENT, name, lambda: self._client.head_object(**self._object(name))["ETag"])

    def create(self, name: str, content: bytes) -> str | None:
        """As `ObjectClient.create`."""
        return self._put(name, content, IfNoneMatch="*")

    def replace(self, name: str, content: bytes, version: str) -> str | None:
        """As `ObjectClient.replace`."""
        return self._put(name, content, IfMatch=version)

    def remove(self, name: str) -> None:
        """As `ObjectClient.remove`."""
        with _told(f"s3://{self._bucket}/{self._prefix}/{name}"):
            self._client.delete_object(**self._object(name))

    def _put(self, name: str, content: bytes, **condition: str) -> str | None:
        def put() -> str:
            return self._client.put_object(**self._object(name), Body=content, **condition)["ETag"]

        return self._unless(_CHANGED | _ABSENT, name, put)

    def _unless(self, codes: set[str], name: str, ask: Callable[[], Any]) -> Any:
        """What the store answers; None where it refuses with one of these codes."""
        with _told(f"s3://{self._bucket}/{self._prefix}/{name}"):
            try:
                return ask()
            except ClientError as error:
                if error.response["Error"]["Code"] in codes:
                    return None
                raise

    def _object(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{name}"}


@contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise RunError(
            where, found=" ".join(str(error).split()), expected="storage that answers",
            to_do="Check bucket, credentials, region and, for a store that is not Amazon's, AWS_ENDPOINT_URL.",
        ) from error  # fmt: skip
