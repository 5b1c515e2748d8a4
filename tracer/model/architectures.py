"""The one table of facts that differ by architecture, keyed by the class name in a checkpoint's config.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracer.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What the explicit frozen map must know and cannot read off the weights."""

    name: str
    centred_norm: bool
    """Whether normalisation subtracts the mean first (LayerNorm) or not (RMSNorm)."""
    n_ignored_positions: int = 1
    """Leading positions whose features and errors are left out: they hold the special token."""


ARCHITECTURES: dict[str, Architecture] = {
    fact.name: fact
    for fact in (
        Architecture(name="GPT2LMHeadModel", centred_norm=True),
        Architecture(name="LlamaForCausalLM", centred_norm=False),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint's config.json says, under names that do not differ by architecture."""

    architecture: Architecture
    n_layers: int
    d_model: int
    n_ctx: int


def read_config(checkpoint: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ModelError: there is none, or it is not JSON.
    """
    path = checkpoint / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(
            str(path),
            found=type(error).__name__,
            expected="a Hugging Face config.json",
            to_do="Check the checkpoint folder.",
        ) from error


def checkpoint_facts(checkpoint: Path) -> CheckpointFacts:
    """Facts of a local checkpoint folder, without loading weights.

    Raises:
        ModelError: the architecture is not in the table, or config.json lacks a size.
    """
    config = read_config(checkpoint)
    name = (config.get("architectures") or ["none named"])[0]
    if name not in ARCHITECTURES:
        raise ModelError(
            str(checkpoint),
            found=f"architecture {name}",
            expected=f"one of {', '.join(ARCHITECTURES)}",
            to_do="Use a checkpoint of a supported architecture.",
        )
    return CheckpointFacts(
        architecture=ARCHITECTURES[name],
        n_layers=_first(checkpoint, config, "n_layer", "num_hidden_layers"),
        d_model=_first(checkpoint, config, "n_embd", "hidden_size"),
        n_ctx=_first(checkpoint, config, "n_positions", "max_position_embeddings"),
    )


def context_length(checkpoint: Path) -> int:
    """Longest input of a local checkpoint, in tokens."""
    return checkpoint_facts(checkpoint).n_ctx


def _first(checkpoint: Path, config: dict[str, Any], *names: str) -> int:
    for name in names:
        if name in config:
            return int(config[name])
    raise ModelError(
        str(checkpoint / "config.json"),
        found="none of them",
        expected=" or ".join(names),
        to_do="Check the checkpoint.",
    )
