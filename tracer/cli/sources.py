"""Which checkpoint and transcoder set are meant: short names, and the checkpoint that a set says it was made for."""

from collections.abc import Sequence
from typing import NamedTuple

from tracer.errors import ConfigError, ModelError

ON_HUB = "org/repo on the hub, such as openai-community/gpt2"


class Sources(NamedTuple):
    """References to a checkpoint and a transcoder set."""

    checkpoint: str
    transcoders: str


ALIASES = {
    "gemma": Sources("google/gemma-2-2b", "mwhanna/gemma-scope-transcoders"),
    "llama": Sources("meta-llama/Llama-3.2-1B", "mntss/transcoder-Llama-3.2-1B"),
}
"""Short names of transcoder sets, as circuit-tracer has them (`utils/hf_utils.py`)."""


def find_sources(checkpoint: str | None, transcoders: str) -> Sources:
    """Both references, of repositories that can be read.

    Args:
        checkpoint: as asked; the one that the set names when not given.
        transcoders: as asked, or a short name.

    Raises:
        ConfigError: no checkpoint is given and the set names none that can be read.
        ModelError: a repository or a path cannot be read.
    """
    if checkpoint is None and transcoders not in ALIASES:
        return Sources(_named_by(transcoders), transcoders)
    alias = ALIASES.get(transcoders, Sources("", transcoders))
    found = Sources(checkpoint or alias.checkpoint, alias.transcoders)
    _check_access(found)
    return found


def _check_access(references: Sequence[str]) -> None:
    """A name without a repository's owner may be meant for the hub."""
    from tracer.model.references import check_access

    try:
        check_access(references)
    except ModelError as error:
        if "/" in error.where or error.where not in references:
            raise
        raise ModelError(
            error.where, found=error.found, expected=f"{error.expected}, or {ON_HUB}", to_do=error.to_do
        ) from error


def _named_by(transcoders: str) -> str:
    """The checkpoint that a set of circuit-tracer's layout names."""
    from tracer.model.readers import circuit_tracer
    from tracer.model.references import check_access, resolve

    _check_access([transcoders])
    folder = resolve(transcoders)
    name = circuit_tracer.read_settings(folder).get("model_name") if circuit_tracer.recognises(folder) else None
    try:
        if name:
            check_access([str(name)])
            return str(name)
        found = "no model_name in its config.yaml"
    except ModelError as error:
        found = f"model_name {name}: {error.found}"
    raise ConfigError(
        transcoders, found=found, expected="the checkpoint that the set was made for",
        to_do=f"Name the checkpoint with --model: a folder or {ON_HUB}.",
    )  # fmt: skip
