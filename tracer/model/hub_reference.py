"""The name of a repository on the Hugging Face hub, of a folder or file in it, at a revision."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

from tracer.errors import ModelError

HF_PREFIX = "hf://"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubReference:
    """A repository, a folder in it or a file in it; `inner` "" is all of it, `revision` None its default branch."""

    repository: str
    inner: str = ""
    revision: str | None = None
    kind: Literal["model", "dataset"] = "model"

    def __str__(self) -> str:
        path = f"{self.repository}/{self.inner}" if self.inner else self.repository
        return path if self.revision is None else f"{path}@{self.revision}"


def parse_hub_reference(reference: str) -> HubReference:
    """Read `org/repo[/path/in/repo][@revision]` or `hf://org/repo[/path/in/repo][?revision=...]`.

    Both forms are circuit-tracer's (`circuit_tracer/utils/hf_utils.py`).

    Args:
        reference: the text.

    Raises:
        ModelError: it has another form, or its path leads out of the repository.
    """
    if reference.startswith(HF_PREFIX):
        path, _, query = reference.removeprefix(HF_PREFIX).partition("?")
        settings = parse_qs(query, keep_blank_values=True)
        revision = settings.pop("revision", [""])[-1]
        is_known = not settings
    else:
        path, at, revision = reference.rpartition("@") if "@" in reference else (reference, "", "")
        is_known = bool(revision) or not at
    organisation, _, rest = path.rstrip("/").partition("/")
    name, _, inner = rest.partition("/")
    repository = f"{organisation}/{name}"
    is_inside = not inner or all(part not in ("", ".", "..") and "\\" not in part for part in inner.split("/"))
    if not (is_known and is_inside and _NAME.fullmatch(repository)):
        raise ModelError(
            reference,
            found="neither a local folder nor a name that the hub could have"
            if is_inside
            else "a path that leads out of the repository",
            expected="a local folder, org/repo[/path][@revision] or hf://org/repo/path[?revision=...]",
            to_do="Check the reference.",
        )
    return HubReference(repository=repository, inner=inner, revision=revision or None)
