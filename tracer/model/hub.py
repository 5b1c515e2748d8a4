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


def commit_of(reference: HubReference) -> str:
    """The commit that a reference names: asked once per process, so that a branch cannot move under a run.

    Without an answer from the hub it is the commit that the download cache holds for the revision, with a warning.

    Args:
        reference: the repository and its revision.

    Raises:
        ModelError: the repository or revision cannot be read, or cannot be reached and is not in the cache.
    """
    try:
        return _commit(reference.kind, reference.repository, reference.revision or DEFAULT_BRANCH)
    except hub_errors() as error:
        raise _refusal([(reference, problem_of(error, reference))]) from error


@cache
def _commit(kind: str, repository: str, revision: str) -> str:
    from huggingface_hub import HfApi

    return HfApi().resolve_revision(repository, repo_type=kind, revision=revision).resolved


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
    try:
        path = _download(pinned, unread=UNREAD_SUFFIXES)
        if not path.is_file() and not any(path.rglob("*.safetensors")):
            path = _download(pinned, unread=[suffix for suffix in UNREAD_SUFFIXES if suffix not in READ_SUFFIXES])
    except hub_errors() as error:
        raise _refusal([(reference, problem_of(error, reference))]) from error
    if not path.exists():
        raise _refusal([(reference, _no_such_path(reference))])
    return path


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
    problems = [
        (reference, problem)
        for reference in dict.fromkeys(references)
        if (problem := _access_problem(reference)) is not None
    ]
    if problems:
        raise _refusal(problems)


def _access_problem(reference: HubReference) -> HubProblem | None:
    from huggingface_hub import HfApi

    api, name, kind, revision = HfApi(), reference.repository, reference.kind, reference.revision
    try:
        api.repo_info(name, repo_type=kind, revision=revision, timeout=_TIMEOUT_S)
        api.auth_check(name, repo_type=kind)
        if reference.inner and not api.get_paths_info(name, reference.inner, revision=revision, repo_type=kind):
            return _no_such_path(reference)
    except hub_errors() as error:
        return None if is_unreachable(error) and _is_cached(reference) else problem_of(error, reference)
    return None


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
