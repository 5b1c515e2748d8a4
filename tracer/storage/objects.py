"""What an object store must offer: files that are seen whole or not at all, and files that are made only if they are
absent, or replaced only if nobody else has replaced them.

Each kind of store does all of it by its own client. Arrow's filesystems know no conditions; they also complete a file
whose writer failed half-way, put an empty file in its place first (Azure), and list no folders (Google).
"""

import re
from collections.abc import Callable
from importlib import import_module
from io import BufferedIOBase
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from tracer.errors import RunError, StorageError

Made = TypeVar("Made")

N_CONNECTIONS = 64
"""Kept open by a client: more than the requests at once of a store, with the pieces of its uploads."""

PIECE_BYTES = 8 * 2**20
"""Larger files are sent in pieces of this size, which make a file when all are there."""


@runtime_checkable
class ObjectClient(Protocol):
    """Objects below one root; a `version` is whatever the store calls one: an ETag, a generation.

    Every method raises StorageError where the store does not answer or refuses, after retries of its own.
    """

    def read(self, name: str) -> tuple[bytes, str] | None:
        """Content and version; None where there is no such object."""

    def version(self, name: str) -> str | None:
        """The version alone."""

    def create(self, name: str, content: bytes) -> str | None:
        """Make an object; gives its version, None where it was there."""

    def replace(self, name: str, content: bytes, version: str) -> str | None:
        """Replace an object; gives its new version, None where its version is another one, or it is gone."""

    def remove(self, name: str) -> None:
        """Remove an object, which may be absent."""


@runtime_checkable
class Objects(ObjectClient, Protocol):
    """Files too, whole or not at all, in the same place and with the same errors."""

    def list(self, folder: str) -> dict[str, int | None]:
        """As `Store.list`."""

    def download(self, name: str, file: BufferedIOBase) -> bool:
        """Write an object's content, all of one version, to a file; False where there is no such object."""

    def upload(self, name: str, file: BufferedIOBase) -> None:
        """Make or replace an object by what is left to read of a file; where that fails, it stays as it was."""


class _Kind(NamedTuple):
    module: str
    package: str
    extra: str
    form: str


_KINDS = {
    "s3": _Kind("tracer.storage.s3", "boto3", "s3", "s3://bucket/folder"),
    "gs": _Kind("tracer.storage.gcs", "google-cloud-storage", "gcs", "gs://bucket/folder"),
    "abfss": _Kind(
        "tracer.storage.azure", "azure-storage-blob", "azure", "abfss://container@account.dfs.core.windows.net/folder"
    ),
}
"""By the scheme of a URI: the module whose `open_objects` opens it, the package that it needs, the extra with it, and
how such a URI looks.
"""


def open_objects(uri: str) -> Objects:
    """Open a root by its URI.

    Raises:
        RunError: an unknown kind, no bucket in it or none of that name, or the package for it is not installed.
    """
    scheme = uri.partition("://")[0]
    if scheme not in _KINDS:
        raise RunError(
            uri, found=f"a URI of kind {scheme}://",
            expected=f"a local path, or one of {', '.join(kind.form for kind in _KINDS.values())}",
            to_do="Give storage that supports conditional writes by a client that tracer knows.",
        )  # fmt: skip
    kind = _KINDS[scheme]
    try:
        opener: Callable[[str], Objects] = import_module(kind.module).open_objects
    except ModuleNotFoundError as error:
        raise RunError(
            uri, found=f"no package {kind.package}", expected="the client of that storage",
            to_do=f"Install it: pip install 'tracer[{kind.extra}]'.",
        ) from error  # fmt: skip
    return opener(uri)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of `scheme://bucket/prefix`.

    Raises:
        RunError: no bucket, or no prefix: a whole bucket is nobody's run; or names that are empty, or credentials.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "abfss" and set("@:") & set(bucket):
        raise RunError(
            f"a URI of kind {scheme}://", found="credentials or a port in it", expected=_KINDS[scheme].form,
            to_do="Give credentials and endpoint in the environment, see tracer/storage/README.md.",
        )  # fmt: skip
    if not bucket or not prefix.strip("/") or "//" in prefix:
        raise RunError(
            uri, found="no bucket and folder", expected=_KINDS[scheme].form, to_do="Name a folder in a bucket."
        )
    return bucket, prefix.strip("/")


def asked(
    where: str,
    ask: Callable[[], Made],
    *,
    unless: Callable[[Exception], bool] = lambda _: False,
    errors: tuple[type[Exception], ...],
    check: str,
) -> Made | None:
    """What a store answers.

    Args:
        where: URI, for messages.
        ask: the request.
        unless: whether an error means that the answer is None.
        errors: those of the store's client.
        check: what a user may have to mend, in words.

    Raises:
        StorageError: every other one of these errors, in one line.
    """
    try:
        return ask()
    except errors as error:
        if unless(error):
            return None
        raise StorageError(
            where, found=_in_one_line(error), expected="storage that answers",
            to_do=f"Check {check}; then run the same command again.",
        ) from error  # fmt: skip


def create_settled(client: ObjectClient, name: str, content: bytes) -> str | None:
    """As `ObjectClient.create`, for content that no other process writes: an answer that was lost, so that the retry
    found the object there, counts as success.
    """
    return client.create(name, content) or _version_if_ours(client, name, content)


def replace_settled(client: ObjectClient, name: str, content: bytes, version: str) -> str | None:
    """As `ObjectClient.replace`, in the way of `create_settled`."""
    return client.replace(name, content, version) or _version_if_ours(client, name, content)


def _version_if_ours(client: ObjectClient, name: str, content: bytes) -> str | None:
    found = client.read(name)
    return found[1] if found is not None and found[0] == content else None


def _in_one_line(error: Exception) -> str:
    """The first line, without the query of a URL, where signatures are; what follows repeats it as XML or for
    programmers.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines()]
    return re.sub(r"(?<=\S)\?[^\s'\")]+", "", next(filter(None, lines), type(error).__name__)).rstrip(".")
