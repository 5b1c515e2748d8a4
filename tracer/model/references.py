"""Where a model or a transcoder set lies: a reference in, a local folder and its content hash out."""

import hashlib
import importlib.util
from pathlib import Path

from tracer.errors import ModelError

PACKAGE_PREFIX = "package:"


def resolve(reference: str) -> Path:
    """The local folder that `reference` names.

    Args:
        reference: a local folder, `package:NAME/path` (files inside an installed Python package), or a hub name
            `org/repo[@revision]`, which is downloaded into the Hugging Face cache.

    Raises:
        ModelError: there is no such folder, package or repository.
    """
    if reference.startswith(PACKAGE_PREFIX):
        return _resolve_in_package(reference)
    path = Path(reference).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or reference.startswith((".", "~")) or reference.count("/") != 1:
        raise ModelError(reference, found="no such folder", expected="a folder with the files", to_do="Check the path.")
    return _download(reference)


def _resolve_in_package(reference: str) -> Path:
    package, _, inner = reference.removeprefix(PACKAGE_PREFIX).partition("/")
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / inner if folders else None
    if path is None or not path.is_dir():
        raise ModelError(
            reference, found="no such folder in the package", expected="package:NAME/path", to_do="Check the reference."
        )
    return path


def _download(reference: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = reference.partition("@")
    try:
        return Path(snapshot_download(repo, revision=revision or None))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            reference,
            found=f"neither a local folder nor a repository that can be fetched ({type(error).__name__})",
            expected="a local folder or a hub name org/repo[@revision]",
            to_do="Check the name, the network and, for a gated repository, HF_TOKEN.",
        ) from error


def content_hash(folder: Path) -> str:
    """Hash of the names and bytes of all files under `folder`, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inner.parts):
            digest.update(inner.as_posix().encode() + b"\0")
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
