"""The one table of facts that differ by architecture, keyed by the class name in a checkpoint's config.json.

The explicit frozen map is used for these alone. A checkpoint of another architecture loads too, with a warning: its
graphs come from the autograd oracle, which needs no facts but the hooks that the bridge offers.
"""

import json
from collections.abc import Sequence
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
    norm_offset: float = 0.0
    """What is added to a norm's stored weight before it multiplies."""
    post_norms: bool = False
    """Whether the outputs of attention and MLP are normalised again before they are added to the stream."""
    router: str | None = None
    """The MLP's module that chooses which experts work on a token; None where there are no experts."""
    final_softcap: float | None = None
    """The bound of logits where config.json does not state one."""
    rotary_halves: bool = True
    """Whether the rotary module gives every angle twice, for both halves of what it turns, or once."""
    ignored_prefixes: tuple[tuple[int, ...], ...] = ()
    """Token ids that open every prompt of a chat model; features and errors on them are left out."""


ARCHITECTURES: dict[str, Architecture] = {
    fact.name: fact
    for fact in (
        Architecture(name="GPT2LMHeadModel", centred_norm=True),
        Architecture(name="LlamaForCausalLM", centred_norm=False),
        Architecture(
            name="Gemma2ForCausalLM", centred_norm=False, norm_offset=1.0, post_norms=True, final_softcap=30.0
        ),
        Architecture(
            name="Gemma3ForCausalLM", centred_norm=False, norm_offset=1.0, post_norms=True,
            # <bos><start_of_turn>user\n of the instruction-tuned checkpoints.
            ignored_prefixes=((2, 105, 2364, 107),),
        ),
        Architecture(name="Qwen3ForCausalLM", centred_norm=False),
        Architecture(name="GPTNeoXForCausalLM", centred_norm=True),
        Architecture(name="Qwen3MoeForCausalLM", centred_norm=False, router="gate"),
        Architecture(name="GptOssForCausalLM", centred_norm=False, router="router", rotary_halves=False),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """What a checkpoint's config.json says, under names that do not differ by architecture."""

    architecture_name: str
    architecture: Architecture | None
    """None where the table does not hold it."""
    n_layers: int
    d_model: int
    n_ctx: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_vocab: int
    parallel: bool
    """Whether attention and MLP of a layer read the same stream."""
    final_softcap: float | None
    """The bound that logits are squashed to by a hyperbolic tangent; None where they are not."""

    @property
    def explicit(self) -> bool:
        """Whether the explicit frozen map knows this architecture; else graphs come from the oracle."""
        return self.architecture is not None

    @property
    def post_norms(self) -> bool:
        """Whether the outputs of attention and MLP are normalised again before they are added to the stream."""
        return self.architecture is not None and self.architecture.post_norms

    @property
    def mixture_of_experts(self) -> bool:
        """Whether a router chooses the parts of an MLP that work on a token."""
        return self.architecture is not None and self.architecture.router is not None

    def n_ignored_positions(self, token_ids: Sequence[int]) -> int:
        """Leading positions whose features and errors are left out: the special token, or a chat model's opening."""
        prefixes = self.architecture.ignored_prefixes if self.architecture is not None else ()
        return next((len(prefix) for prefix in prefixes if tuple(token_ids[: len(prefix)]) == prefix), 1)


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
        ModelError: config.json lacks a size.
    """
    config = read_config(checkpoint)
    name = (config.get("architectures") or ["none named"])[0]
    d_model = _first(checkpoint, config, "n_embd", "hidden_size")
    n_heads = _first(checkpoint, config, "n_head", "num_attention_heads")
    architecture = ARCHITECTURES.get(name)
    return CheckpointFacts(
        architecture_name=name,
        architecture=architecture,
        n_layers=_first(checkpoint, config, "n_layer", "num_hidden_layers"),
        d_model=d_model,
        n_ctx=_first(checkpoint, config, "n_positions", "max_position_embeddings"),
        n_heads=n_heads,
        n_kv_heads=int(config.get("num_key_value_heads") or n_heads),
        d_head=int(config.get("head_dim") or d_model // n_heads),
        d_vocab=_first(checkpoint, config, "vocab_size"),
        # Only GPT-NeoX has the setting among the table's architectures, and it is on where the file does not say.
        parallel=bool(config.get("use_parallel_residual", name == "GPTNeoXForCausalLM")),
        final_softcap=config.get("final_logit_softcapping", architecture and architecture.final_softcap),
    )


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
