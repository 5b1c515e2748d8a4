"""What an object store must offer beside plain files: a file that is made only if it is absent, or replaced only if
nobody else has replaced it. `pyarrow.fs` has neither and overwrites, so each kind of store does it by its own client.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, runtime_checkable

from pyarrow.fs import FileSystem

from tracer.errors import RunError


@runtime_checkable
class ObjectClient(Protocol):
    """Conditional writes below one root; a `version` is whatever the store calls one: an ETag, a generation.

    Every method raises RunError where the store does not answer or refuses, after retries of its own.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """One root in an object store: plain files by `filesystem` below `base`, conditional writes by `client`."""

    filesystem: FileSystem
    base: str
    client: ObjectClient


_KINDS = {
    "s3": ("tracer.storage.s3", "boto3", "s3"),
}
"""By the scheme of a URI: the module whose `open_objects` opens it, the package that it needs, the extra with it."""


def open_objects(uri: str) -> Objects:
    """Open a root by its URI.

    Raises:
        RunError: an unknown kind, no bucket in it, or the package for it is not installed.
    """
    scheme = uri.partition("://")[0]
    if scheme not in _KINDS:
        known = ", ".join(f"{name}://" for name in _KINDS)
        raise RunError(
            uri, found=f"a URI of kind {scheme}://", expected=f"a local path, or one of {known}",
            to_do="Give storage that supports conditional writes by a client that tracer knows.",
        )  # fmt: skip
    module, package, extra = _KINDS[scheme]
    try:
        opener: Callable[[str], Objects] = import_module(module).open_objects
    except ModuleNotFoundError as error:
        raise RunError(
            uri, found=f"no package {package}", expected="the client of that storage",
            to_do=f"Install it: pip install 'tracer[{extra}]'.",
        ) from error  # fmt: skip
    return opener(uri)


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and prefix of `scheme://bucket/prefix`.

    Raises:
        RunError: no bucket, or no prefix: a whole bucket is nobody's run.
    """
    bucket, _, prefix = uri.partition("://")[2].partition("/")
    if not bucket or not prefix.strip("/"):
        raise RunError(
            uri, found="no bucket and folder", expected="scheme://bucket/folder", to_do="Name a folder in a bucket."
        )
    return bucket, prefix.strip("/")


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
