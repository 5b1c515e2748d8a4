"""Repositories of the Hugging Face hub: one commit per process, access, download.

The token is that of `huggingface_hub` (HF_TOKEN or a login) and the cache is its own; neither is touched here.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from glob import escape
from pathlib import Path

from tracer.errors import ModelError
from tracer.model.hub_errors import HubProblem, hub_errors, is_unreachable, problem_of
from tracer.model.hub_reference import HubReference

UNREAD_SUFFIXES = (".bin", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx", ".onnx_data", ".ot", ".pt", ".pth", ".tflite")
"""Weights that a repository holds beside its safetensors for other programs, most of them pickles."""
READ_SUFFIXES = frozenset({".pt"})
"""Those of them that a reader of transcoders reads, where a repository has no safetensors."""

DEFAULT_BRANCH = "main"
N_FILES_AT_ONCE = 8
_TIMEOUT_S = 30.0
_PINNED: dict[HubReference, str] = {}


def pin(reference: HubReference, commit: str) -> None:
    """Let a revision mean this commit for the rest of the process, wherever its branch has moved meanwhile.

    Args:
        reference: the repository and its revision.
        commit: what `commit_of` gives from now on.
    """
    _PINNED[_at_revision(reference)] = commit


def commit_of(reference: HubReference) -> str:
    """The commit that a reference names: asked once per process, so that a branch cannot move under a run.

    One that is pinned is not asked for. Without an answer from the hub it is the commit that the download cache holds
    for the revision, with a warning.

    Args:
        reference: the repository and its revision.

    Raises:
        ModelError: the repository or revision cannot be read, or cannot be reached and is not in the cache.
    """
    asked = _at_revision(reference)
    try:
        return _PINNED.get(asked) or _commit(asked)
    except hub_errors() as error:
        raise _refusal([(reference, problem_of(error, reference))]) from error


def _at_revision(reference: HubReference) -> HubReference:
    return replace(reference, inner="", revision=reference.revision or DEFAULT_BRANCH)


@cache
def _commit(asked: HubReference) -> str:
    from huggingface_hub import HfApi

    return HfApi().resolve_revision(asked.repository, repo_type=asked.kind, revision=asked.revision).resolved


def at_commit(reference: HubReference) -> HubReference:
    """The same reference with its commit as the revision.

    Args:
        reference: with a branch, a tag, a commit or none.

    Raises:
        ModelError: as `commit_of`.
    """
    return replace(reference, revision=commit_of(reference))


def fetch(reference: HubReference) -> Path:
    """The file or folder in the Hugging Face cache, downloaded as far as it is not there.

    Only what lies under the reference's path is fetched. Weights of `UNREAD_SUFFIXES` stay away, so a checkpoint needs
    safetensors, unless the reference names that very file or, for `READ_SUFFIXES`, there are no safetensors. A file
    appears in the cache when all of it has come: after an interruption the next call goes on with those missing.

    Args:
        reference: what to fetch.

    Raises:
        ModelError: it cannot be read or reached, lacks the path, or the download broke off.
    """
    pinned = at_commit(reference)
    names = file_names(reference)
    if reference.inner and names is not None and not names:
        raise _refusal([(reference, _no_such_path(reference))])
    without_pt = names is None or "" in names or any(name.endswith(".safetensors") for name in names)
    with_pt = [suffix for suffix in UNREAD_SUFFIXES if suffix not in READ_SUFFIXES]
    try:
        path = _download(pinned, unread=UNREAD_SUFFIXES if without_pt else with_pt)
        if names is None and not path.is_file() and not any(path.rglob("*.safetensors")):
            path = _download(pinned, unread=with_pt)
    except hub_errors() as error:
        raise _refusal([(reference, problem_of(error, reference))]) from error
    if not path.exists():
        raise _refusal([(reference, _no_such_path(reference))])
    return path


def file_names(reference: HubReference) -> list[str] | None:
    """Paths of the files under a reference, relative to it ("" is the reference itself); None where nobody knows.

    They come from the download cache, else from the hub, which is asked once per process.

    Args:
        reference: a repository, a folder or a file.

    Raises:
        ModelError: as `commit_of`.
    """
    pinned = at_commit(reference)
    try:
        names = _all_names(replace(pinned, inner=""))
    except hub_errors():
        return None
    if not pinned.inner:
        return list(names)
    return [
        name.removeprefix(pinned.inner).removeprefix("/")
        for name in names
        if name == pinned.inner or name.startswith(f"{pinned.inner}/")
    ]


@cache
def _all_names(pinned: HubReference) -> tuple[str, ...]:
    from huggingface_hub import HfApi, get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    name, kind, commit = pinned.repository, pinned.kind, pinned.revision
    try:
        return tuple(file.path for file in get_cached_repo_tree(name, repo_type=kind, revision=commit))
    except CachedRepoTreeNotFoundError:
        return tuple(HfApi().list_repo_files(name, repo_type=kind, revision=commit))


def _download(pinned: HubReference, *, unread: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    inner = escape(pinned.inner)
    snapshot = snapshot_download(
        pinned.repository,
        repo_type=pinned.kind,
        revision=pinned.revision,
        allow_patterns=[inner, f"{inner}/*"] if inner else None,
        ignore_patterns=[f"*{suffix}" for suffix in unread if not pinned.inner.endswith(suffix)],
        max_workers=N_FILES_AT_ONCE,
    )
    return Path(snapshot) / pinned.inner


def check_hub_access(references: Sequence[HubReference]) -> None:
    """Ask the hub for every repository before anything is downloaded; what is wrong comes in one error.

    A repository that cannot be reached passes if the download cache knows its revision.

    Args:
        references: repositories, with revisions and paths that must be there.

    Raises:
        ModelError: one of them is missing, private, gated, or lacks the revision or the path; or the token is refused.
    """
    by_revision: dict[HubReference, list[HubReference]] = {}
    for reference in dict.fromkeys(references):
        by_revision.setdefault(replace(reference, inner=""), []).append(reference)
    problems = [problem for asked, wanted in by_revision.items() for problem in _access_problems(asked, wanted)]
    if problems:
        raise _refusal(problems)


def _access_problems(asked: HubReference, wanted: Sequence[HubReference]) -> list[tuple[HubReference, HubProblem]]:
    """What is wrong with one revision of a repository, or with paths that are wanted of it."""
    from huggingface_hub import get_token

    paths = tuple(reference.inner for reference in wanted if reference.inner)
    try:
        found = _found_paths(asked, paths, get_token())
    except hub_errors() as error:
        if is_unreachable(error) and _is_cached(asked):
            return []
        return [(wanted[0] if len(wanted) == 1 else asked, problem_of(error, asked))]
    return [
        (reference, _no_such_path(reference))
        for reference in wanted
        if reference.inner and reference.inner not in found
    ]


@cache
def _found_paths(asked: HubReference, paths: tuple[str, ...], token: str | None) -> frozenset[str]:
    """Those of the paths that are there, once a token is known to open the repository."""
    from huggingface_hub import HfApi

    _ask_access(asked, token)
    if not paths:
        return frozenset()
    found = HfApi(token=token).get_paths_info(
        asked.repository, list(paths), revision=asked.revision, repo_type=asked.kind
    )
    return frozenset(entry.path for entry in found)


@cache
def _ask_access(asked: HubReference, token: str | None) -> None:
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.repo_info(asked.repository, repo_type=asked.kind, revision=asked.revision, timeout=_TIMEOUT_S)
    api.auth_check(asked.repository, repo_type=asked.kind)


def _is_cached(reference: HubReference) -> bool:
    try:
        commit_of(reference)
    except ModelError:
        return False
    return True


def _no_such_path(reference: HubReference) -> HubProblem:
    return HubProblem(f"no {reference.inner} in the repository", "Check the path behind the repository's name.")


def _refusal(problems: Sequence[tuple[HubReference, HubProblem]]) -> ModelError:
    if len(problems) == 1:
        ((reference, problem),) = problems
        found = problem.found
    else:
        found = "; ".join(f"{reference}: {problem.found}" for reference, problem in problems)
    return ModelError(
        ", ".join(str(reference) for reference, _ in problems),
        found=found,
        expected="a repository on the hub that can be read",
        to_do=" ".join(dict.fromkeys(problem.to_do for _, problem in problems)),
    )
