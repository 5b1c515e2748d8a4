"""What went wrong with a repository of the hub, in words that name the cause and never hold a token."""

from typing import NamedTuple

from tracer.model.hub_reference import HubReference

_LONGEST_MESSAGE = 200


class HubProblem(NamedTuple):
    """What was found, and what to do about it."""

    found: str
    to_do: str


def hub_errors() -> tuple[type[Exception], ...]:
    """The classes that the hub's client raises: its own, those of its HTTP library, and of the file system."""
    from huggingface_hub.errors import HTTPError, RevisionResolutionError

    return HTTPError, RevisionResolutionError, OSError, ValueError


def is_unreachable(error: Exception) -> bool:
    """Whether the hub gave no usable answer: no network, offline mode, or a failure of its own.

    Args:
        error: one of `hub_errors`.
    """
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    status = _status(error)
    return isinstance(error, OfflineModeIsEnabled) or (
        isinstance(error, HTTPError) if status is None else status >= 500
    )


def problem_of(error: Exception, reference: HubReference) -> HubProblem:
    """Put an error into words.

    Args:
        error: one of `hub_errors`; an answer of the hub behind "not in the cache" is what counts.
        reference: what was asked for.
    """
    from huggingface_hub import errors, get_token

    cause = error.__cause__
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(cause, errors.HfHubHTTPError):
        error = cause
    status, has_token = _status(error), get_token() is not None
    if isinstance(error, errors.GatedRepoError):
        found = "a gated repository that the token may not read" if has_token else "a gated repository, and no token"
        to_do = f"Accept its terms at {_page(reference)} and set HF_TOKEN to a token of that account."
        return HubProblem(found, to_do)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubProblem(f"no revision {reference.revision!r} in the repository", "Check the revision.")
    if status == 401 and has_token:
        return HubProblem("a token that the hub does not accept", "Set HF_TOKEN to a valid token, or unset it.")
    if status in (401, 404):
        found = "neither a local folder nor a repository: it does not exist, or is private and "
        found += "the token may not read it" if has_token else "there is no token"
        return HubProblem(found, "Check the name; for a private repository set HF_TOKEN to a token that may read it.")
    if status == 403:
        found = "a repository that the hub does not let " + ("the token" if has_token else "anybody without a token")
        to_do = f"Accept its terms, if it has any, at {_page(reference)}, and set HF_TOKEN to a token that may read it"
        return HubProblem(f"{found} read", f"{to_do}; a fine-grained one needs access to gated repositories.")
    if status is not None:
        is_passing = status == 429 or status >= 500
        to_do = "Try again later." if is_passing else f"See {_page(reference)}."
        return HubProblem(f"status {status} in answer from {_endpoint()}", to_do)
    return _problem_here(error)


def _problem_here(error: Exception) -> HubProblem:
    """A problem that is not an answer of the hub."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return HubProblem("no name that a repository could have", "Check the name.")
    absent = "neither a local folder nor a repository of which all that is needed lies in the download cache"
    if _is_offline():
        return HubProblem(f"{absent}, with HF_HUB_OFFLINE set", "Check the name, or unset HF_HUB_OFFLINE.")
    if isinstance(error, (errors.RevisionResolutionError, errors.LocalEntryNotFoundError)) or is_unreachable(error):
        return HubProblem(f"{absent}, and no answer from {_endpoint()}", "Check the name and the network.")
    message = " ".join(str(error).split())[:_LONGEST_MESSAGE]
    return HubProblem(
        f"a download that broke off ({type(error).__name__}: {message})",
        "Run the same command again: files that have come whole are kept.",
    )


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)


def _page(reference: HubReference) -> str:
    folder = "datasets/" if reference.kind == "dataset" else ""
    return f"{_endpoint()}/{folder}{reference.repository}"


def _endpoint() -> str:
    from huggingface_hub import constants

    return constants.ENDPOINT


def _is_offline() -> bool:
    from huggingface_hub import constants

    return constants.is_offline_mode()
