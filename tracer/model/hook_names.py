"""Where the bridge offers what transcoders read and write, and what freezing holds fixed.

Transcoder folders name hooks of HookedTransformer, whose meaning differs from the bridge's hooks of the same name; the
reader maps them to a meaning (`ReadPoint`, `WritePoint`), and here a meaning becomes a hook of the bridge.
"""

from collections.abc import Collection
from dataclasses import dataclass

from tracer.errors import ModelError
from tracer.model.architectures import CheckpointFacts
from tracer.model.transcoders import ReadPoint, WritePoint

_READ_HOOKS: dict[ReadPoint, str] = {
    "mlp_in": "mlp.hook_in",
    "normalised": "ln2.hook_normalized",
    "resid_mid": "hook_resid_mid",
}
_WRITE_HOOKS: dict[WritePoint, str] = {"mlp_out": "mlp.hook_out", "residual": "hook_mlp_out"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HookNames:
    """Names of the bridge's hooks for one model and transcoder set."""

    facts: CheckpointFacts
    read_point: ReadPoint
    write_point: WritePoint

    def read(self, layer: int) -> str:
        """What the transcoder of `layer` reads passes here.

        Raises:
            ModelError: the architecture is outside the table, and the hook does not mean the same on all others.
        """
        if self.read_point == "normalised" and not self.facts.explicit:
            raise ModelError(
                "transcoder set", found="ln2.hook_normalized on an architecture outside the table",
                expected="mlp.hook_in or hook_resid_mid, whose meaning is the same on all",
                to_do="Use another set, or add the architecture to the table.",
            )  # fmt: skip
        return f"blocks.{layer}.{_READ_HOOKS[self.read_point]}"

    def write(self, layer: int) -> str:
        """The MLP output of `layer` passes here, at the place that transcoders write."""
        return f"blocks.{layer}.{_WRITE_HOOKS[self.write_point]}"

    def per_layer(self, layer: int) -> dict[str, str]:
        """The hook of each field of `Forward` that has a value a layer."""
        names = {"reads": self.read(layer), "mlp_outputs": self.write(layer)}
        if self.facts.explicit:
            names |= {
                "patterns": f"blocks.{layer}.attn.hook_pattern",
                "attention_scales": f"blocks.{layer}.ln1.hook_scale",
                "mlp_scales": f"blocks.{layer}.ln2.hook_scale",
            }
        if self.facts.post_norms:
            names |= {
                "attention_post_scales": f"blocks.{layer}.ln1_post.hook_scale",
                "mlp_post_scales": f"blocks.{layer}.ln2_post.hook_scale",
            }
        return names


def frozen_names(offered: Collection[str]) -> list[str]:
    """Every pattern and norm scale among a bridge's hooks: what is held fixed where nothing else is known."""
    return [name for name in offered if name.endswith((".hook_pattern", ".hook_scale"))]
