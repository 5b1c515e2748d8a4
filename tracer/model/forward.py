"""The one forward pass of a prompt whose values everything else freezes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.hook_names import HookNames, frozen_names

Hook = tuple[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPass:
    """What the frozen map needs of a forward pass, of one prompt or of several side by side.

    Several prompts lie place by place: position 0 of each of them, then position 1 of each, all as long as the longest.
    """

    embedding: Float[Tensor, "pos d_model"]
    """Token embeddings as they enter the stream, scaled where the model scales them, learned positions not included."""
    stream_start: Float[Tensor, "pos d_model"]
    """The stream in front of the first layer: embeddings and learned positions."""
    patterns: Float[Tensor, "layer *prompt head query key"]
    attention_scales: Float[Tensor, "layer pos"]
    mlp_scales: Float[Tensor, "layer pos"]
    attention_post_scales: Float[Tensor, "layer pos"] | None
    mlp_post_scales: Float[Tensor, "layer pos"] | None
    """Scales of the norms behind attention and MLP, where there are such."""
    mlp_outputs: Float[Tensor, "layer pos d_model"]
    """MLP outputs at the transcoders' write point."""

    @property
    def n_prompts(self) -> int:
        """Prompts side by side."""
        return self.patterns.shape[1] if self.patterns.dim() == 5 else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward(FrozenPass):
    """What was captured of one prompt: everything that the frozen map and the transcoders need.

    Where the architecture is not in the table, patterns and scales are not a number: only the oracle works there, with
    `captured_frozen`.
    """

    token_ids: Int[Tensor, " pos"]
    final_scale: Float[Tensor, " pos"]
    reads: Float[Tensor, "layer pos d_model"]
    """What the transcoders of each layer read."""
    logits: Float[Tensor, "pos vocab"]
    """What the model gives: after a final soft cap."""
    uncapped_logits: Float[Tensor, "pos vocab"]
    """Logits in front of a final soft cap; the same tensor where there is none."""
    captured_frozen: dict[str, Tensor] | None = None
    """Every pattern and scale by hook name, where the architecture is not in the table."""

    @property
    def n_pos(self) -> int:
        """Length of the prompt with its special token."""
        return len(self.token_ids)

    def frozen(self) -> dict[str, Tensor]:
        """What freezing holds fixed, attention patterns and norm scales, by the bridge's hook name."""
        if self.captured_frozen is not None:
            return self.captured_frozen
        kinds = {
            "attn.hook_pattern": self.patterns,
            "ln1.hook_scale": self.attention_scales,
            "ln2.hook_scale": self.mlp_scales,
            "ln1_post.hook_scale": self.attention_post_scales,
            "ln2_post.hook_scale": self.mlp_post_scales,
        }
        found = {
            f"blocks.{layer}.{name}": value
            for name, values in kinds.items()
            if values is not None
            for layer, value in enumerate(values)
        }
        return found | {"ln_final.hook_scale": self.final_scale}


class Capture:
    """Captures one pass over right-padded prompts: values of all layers go into one tensor a kind as they come."""

    def __init__(self, names: HookNames, offered: Sequence[str]) -> None:
        self.names = names
        self.per_layer: dict[str, Tensor] = {}
        self.single: dict[str, Tensor] = {}
        self.frozen: dict[str, Tensor] = {}
        self._frozen_names = [] if names.facts.explicit else frozen_names(offered)

    def hooks(self) -> list[Hook]:
        """Hooks to run the pass with."""
        hooks: list[Hook] = []
        for layer in range(self.names.facts.n_layers):
            for kind, name in self.names.per_layer(layer).items():
                hooks.append((name, self._keep_layer(kind, layer)))
        kept = {
            "embed.hook_out": "embedding",
            "blocks.0.hook_in": "stream_start",
            "unembed.hook_out": "uncapped_logits",
        }
        if self.names.facts.explicit:
            kept["ln_final.hook_scale"] = "final_scale"
        hooks += [(name, self._keep(self.single, kind)) for name, kind in kept.items()]
        return hooks + [(name, self._keep(self.frozen, name)) for name in self._frozen_names]

    def _keep(self, place: dict[str, Tensor], name: str) -> Callable[..., None]:
        def hook_function(value: Tensor, hook: Any) -> None:
            place[name] = value.detach()

        return hook_function

    def _keep_layer(self, kind: str, layer: int) -> Callable[..., None]:
        def hook_function(value: Tensor, hook: Any) -> None:
            if kind not in self.per_layer:
                n_layers = self.names.facts.n_layers
                self.per_layer[kind] = torch.empty(n_layers, *value.shape, dtype=value.dtype, device=value.device)
            self.per_layer[kind][layer] = value.detach()

        return hook_function

    def forward(self, place: int, token_ids: Int[Tensor, " pos"], logits: Float[Tensor, "pos vocab"]) -> Forward:
        """What was captured of the prompt at `place` in the pass, cut to its length."""
        n_pos, n_layers = len(token_ids), self.names.facts.n_layers
        # Not a number rather than zero: whoever reads them where only the oracle works cannot miss it.
        unknown = torch.full((1, 1), torch.nan, device=logits.device, dtype=logits.dtype)
        found: dict[str, Tensor] = {
            "patterns": unknown.expand(n_layers, 1, n_pos, n_pos),
            "attention_scales": unknown.expand(n_layers, n_pos),
            "mlp_scales": unknown.expand(n_layers, n_pos),
            "final_scale": unknown[0].expand(n_pos),
        }
        for kind, values in self.per_layer.items():
            cut = values[:, place, :, :n_pos, :n_pos] if kind == "patterns" else values[:, place, :n_pos]
            found[kind] = (cut[..., 0] if kind.endswith("scales") else cut).contiguous()
        for kind, value in self.single.items():
            cut = value[place, :n_pos]
            found[kind] = (cut[:, 0] if kind == "final_scale" else cut).contiguous()
        return Forward(
            token_ids=token_ids,
            logits=logits,
            uncapped_logits=found["uncapped_logits"] if self.names.facts.final_softcap else logits,
            attention_post_scales=found.get("attention_post_scales"),
            mlp_post_scales=found.get("mlp_post_scales"),
            captured_frozen=None if self.names.facts.explicit else self._frozen_of(place, n_pos),
            **{kind: found[kind] for kind in _REQUIRED},
        )

    def _frozen_of(self, place: int, n_pos: int) -> dict[str, Tensor]:
        return {
            name: value[place, ..., :n_pos, :n_pos] if name.endswith("pattern") else value[place, :n_pos]
            for name, value in self.frozen.items()
        }


_REQUIRED = (
    "embedding", "stream_start", "patterns", "attention_scales", "mlp_scales", "final_scale", "reads", "mlp_outputs",
)  # fmt: skip


def padded(prompts: Sequence[Int[Tensor, " _"]]) -> Int[Tensor, "prompt pos"]:
    """Prompts as one tensor, zeros behind the shorter ones: attention is causal, so padding there changes nothing."""
    return torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)


def in_float32(hook_function: Callable[..., Any]) -> Callable[..., Any]:
    """The same hook for a model of lower precision: it sees float32, and what it gives is rounded again.

    Args:
        hook_function: called with a value and, by keyword, the hook point.
    """

    def widened(value: Any, hook: Any) -> Any:
        if not (isinstance(value, Tensor) and value.is_floating_point()):
            return hook_function(value, hook=hook)
        given = hook_function(value.float(), hook=hook)
        return given.to(value.dtype) if isinstance(given, Tensor) else given

    return widened
