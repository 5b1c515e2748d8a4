"""Which checkpoint and transcoder set are meant: short names, and the checkpoint that a set says it was made for."""

from typing import NamedTuple

from tracer.errors import ConfigError, ModelError


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
    from tracer.model.references import check_access

    if checkpoint is None and transcoders not in ALIASES:
        return Sources(_named_by(transcoders), transcoders)
    alias = ALIASES.get(transcoders, Sources("", transcoders))
    found = Sources(checkpoint or alias.checkpoint, alias.transcoders)
    check_access(found)
    return found


def _named_by(transcoders: str) -> str:
    """The checkpoint that a set of circuit-tracer's layout names."""
    from tracer.model.readers import circuit_tracer
    from tracer.model.references import check_access, resolve

    check_access([transcoders])
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
        to_do="Name the checkpoint with --model.",
    )  # fmt: skip
