"""The one forward pass of a prompt whose values everything else freezes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.transcoders import ReadPoint

READ_HOOKS: dict[ReadPoint, str] = {
    "mlp_in": "mlp.hook_in",
    "normalised": "ln2.hook_normalized",
    "resid_mid": "ln2.hook_in",
}
"""The bridge's hook at which a read point's value passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """What was captured: everything that the frozen map and the transcoders need."""

    token_ids: Int[Tensor, " pos"]
    embedding: Float[Tensor, "pos d_model"]
    """Token embeddings as they enter the stream, learned positions not included."""
    stream_start: Float[Tensor, "pos d_model"]
    """The stream in front of the first layer: embeddings and learned positions."""
    patterns: Float[Tensor, "layer head query key"]
    attention_scales: Float[Tensor, "layer pos"]
    mlp_scales: Float[Tensor, "layer pos"]
    final_scale: Float[Tensor, " pos"]
    reads: Float[Tensor, "layer pos d_model"]
    """What the transcoders of each layer read."""
    mlp_outputs: Float[Tensor, "layer pos d_model"]
    logits: Float[Tensor, "pos vocab"]

    @property
    def n_pos(self) -> int:
        """Length of the prompt with its special token."""
        return len(self.token_ids)


def hook_names(n_layers: int, read_point: ReadPoint) -> list[str]:
    """The bridge's hooks that `forward_from_cache` needs."""
    per_layer = ("attn.hook_pattern", "ln1.hook_scale", "ln2.hook_scale", READ_HOOKS[read_point], "mlp.hook_out")
    names = [f"blocks.{layer}.{name}" for layer in range(n_layers) for name in per_layer]
    return [*names, "embed.hook_out", "blocks.0.hook_in", "ln_final.hook_scale"]


def forward_from_cache(
    token_ids: Int[Tensor, " pos"],
    logits: Float[Tensor, "pos vocab"],
    cache: dict[str, Tensor],
    n_layers: int,
    read_point: ReadPoint,
) -> Forward:
    """Bundle captured tensors (each with a batch of one in front)."""

    def stacked(name: str) -> Tensor:
        return torch.stack([cache[f"blocks.{layer}.{name}"][0] for layer in range(n_layers)])

    return Forward(
        token_ids=token_ids,
        embedding=cache["embed.hook_out"][0],
        stream_start=cache["blocks.0.hook_in"][0],
        patterns=stacked("attn.hook_pattern"),
        attention_scales=stacked("ln1.hook_scale")[..., 0],
        mlp_scales=stacked("ln2.hook_scale")[..., 0],
        final_scale=cache["ln_final.hook_scale"][0, :, 0],
        reads=stacked(READ_HOOKS[read_point]),
        mlp_outputs=stacked("mlp.hook_out"),
        logits=logits,
    )
