"""Where a model or a transcoder set lies: a reference in, a local path and its content hash out."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tracer.errors import ModelError
from tracer.model.hub import UNREAD_SUFFIXES, at_commit, check_hub_access, fetch
from tracer.model.hub_reference import HF_PREFIX, HubReference, parse_hub_reference
from tracer.model.sae_lens_releases import RELEASE_PREFIX, release_folder, release_repository

PACKAGE_PREFIX = "package:"


def resolve(reference: str) -> Path:
    """The local folder, or file, that `reference` names.

    Args:
        reference: a local path; `package:NAME/path` (files inside an installed Python package); or on the hub
            `org/repo[/path][@revision]` or `hf://org/repo[/path][?revision=...]`, whose files are downloaded into the
            Hugging Face cache (see `tracer.model.hub.fetch`); or `saelens:RELEASE`, which sae-lens fetches.

    Raises:
        ModelError: there is no such path, package or repository, it cannot be read, or the path leads out of it.
    """
    if reference.startswith(RELEASE_PREFIX):
        return release_folder(reference)
    local = _local(reference)
    return local if isinstance(local, Path) else fetch(local)


def pinned(reference: str, commit: str | None = None) -> str:
    """The same reference with a commit as its revision; a local one stays as it is.

    Args:
        reference: as for `resolve`.
        commit: none given: the one that its revision names, asked once per process.

    Raises:
        ModelError: as `resolve`.
    """
    on_hub = hub_reference(reference)
    if on_hub is None:
        return reference
    return str(at_commit(on_hub) if commit is None else replace(on_hub, revision=commit))


def hub_reference(reference: str) -> HubReference | None:
    """What a reference names on the hub; None for a local one, and for a release, which sae-lens fetches.

    Args:
        reference: as for `resolve`.

    Raises:
        ModelError: it names neither, or a local path that is not there.
    """
    found = None if reference.startswith(RELEASE_PREFIX) else _local(reference)
    return found if isinstance(found, HubReference) else None


def repository_of(reference: str) -> HubReference | None:
    """The repository on the hub that a reference's files come from, that of a release too; None for a local one.

    Args:
        reference: as for `resolve`.

    Raises:
        ModelError: as `hub_reference`, or sae-lens does not know the release.
    """
    return release_repository(reference) if reference.startswith(RELEASE_PREFIX) else hub_reference(reference)


def check_access(references: Sequence[str | HubReference]) -> None:
    """Ask the hub for every repository that is named, before anything is downloaded.

    Args:
        references: as for `resolve`, local ones too; a dataset's as a `HubReference`.

    Raises:
        ModelError: naming every repository that cannot be read, and why; or a path that is not there.
    """
    found = [repository_of(reference) if isinstance(reference, str) else reference for reference in references]
    check_hub_access([reference for reference in found if reference is not None])


def content_hash(path: Path) -> str:
    """Hash of names and bytes of a file, or of all files under a folder.

    Left out are hidden files and, beside safetensors, the weights that tracer never reads (`UNREAD_SUFFIXES`): other
    programs put them into the same download cache.

    Args:
        path: what `resolve` gave.
    """
    digest = hashlib.sha256()
    for inner in [Path(path.name)] if path.is_file() else _read_files(path):
        digest.update(inner.as_posix().encode() + b"\0")
        with (path if path.is_file() else path / inner).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _read_files(folder: Path) -> list[Path]:
    found = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    visible = [inner for inner in found if not any(part.startswith(".") for part in inner.parts)]
    if not any(inner.suffix == ".safetensors" for inner in visible):
        return visible
    return [inner for inner in visible if inner.suffix not in UNREAD_SUFFIXES]


def _local(reference: str) -> Path | HubReference:
    """The path of what is here, and what the hub should have else."""
    if reference.startswith(PACKAGE_PREFIX):
        return _resolve_in_package(reference)
    if reference.startswith(HF_PREFIX):
        return parse_hub_reference(reference)
    path = Path(reference).expanduser()
    if path.exists():
        return path
    if path.is_absolute() or reference.startswith((".", "~")) or "/" not in reference:
        raise ModelError(reference, found="no such folder", expected="a folder with the files", to_do="Check the path.")
    return parse_hub_reference(reference)


def _resolve_in_package(reference: str) -> Path:
    package, _, inner = reference.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / inner if folders else None
    leads_out = ".." in Path(inner).parts or Path(inner).is_absolute()
    if leads_out or path is None or not path.exists():
        raise ModelError(
            reference,
            found="a path that leads out of the package" if leads_out else "no such folder in the package",
            expected="package:NAME/path",
            to_do="Check the reference.",
        )
    return path
