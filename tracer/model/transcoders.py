"""Transcoders as data: sparse features that read a layer's MLP input and write MLP outputs.

A per-layer feature writes at its own layer; a cross-layer one at its own and every later layer (Ameisen et al. 2025).
Both are held in one form: `W_dec` of a layer has shape (feature, written, d_model), where index `w` of `written` is
layer `layer + w`.
"""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

ReadPoint = Literal["mlp_in", "normalised", "resid_mid"]
"""What a feature reads: the MLP's input; the normalised stream before the norm's weight; or the stream before the
norm.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Active features of one layer, sorted by position, then feature."""

    pos: Int[Tensor, " active"]
    feature: Int[Tensor, " active"]
    value: Float[Tensor, " active"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTranscoder:
    """The features that read at one layer. `threshold` None: ReLU; else JumpReLU (Rajamanoharan et al. 2024)."""

    W_enc: Float[Tensor, "feature d_model"]
    b_enc: Float[Tensor, " feature"]
    threshold: Float[Tensor, " feature"] | None
    W_dec: Float[Tensor, "feature written d_model"]
    b_dec: Float[Tensor, " d_model"]

    def pre_activations(self, read: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch feature"]:
        """Encoder output before the nonlinearity."""
        return read @ self.W_enc.T + self.b_enc

    def activate(self, pre_activations: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch feature"]:
        """The nonlinearity."""
        if self.threshold is None:
            return pre_activations.relu()
        return pre_activations * (pre_activations > self.threshold)

    def encode(self, read: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch feature"]:
        """Activations, dense."""
        return self.activate(self.pre_activations(read))

    def active(self, read: Float[Tensor, "pos d_model"], n_ignored: int) -> Activations:
        """Activations, sparse; those of the first `n_ignored` positions are left out."""
        dense = self.encode(read)
        dense[:n_ignored] = 0
        pos, feature = dense.nonzero(as_tuple=True)
        return Activations(pos=pos, feature=feature, value=dense[pos, feature])


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscoderSet:
    """The transcoders of all layers, and where they read."""

    layers: tuple[LayerTranscoder, ...]
    read_point: ReadPoint
    cross_layer: bool
    model_name: str
    """The checkpoint that the files say they were made for; empty where they do not say."""

    @property
    def n_layers(self) -> int:
        """Layers of the model."""
        return len(self.layers)

    @property
    def n_features(self) -> tuple[int, ...]:
        """Features of each layer."""
        return tuple(len(layer.b_enc) for layer in self.layers)

    def decode(
        self, activations: list[Float[Tensor, "pos feature"]], written_layer: int
    ) -> Float[Tensor, "pos d_model"]:
        """Reconstructed MLP output of `written_layer` from the dense activations of all layers up to it."""
        output = self.layers[written_layer].b_dec
        first = 0 if self.cross_layer else written_layer
        for layer in range(first, written_layer + 1):
            output = output + activations[layer] @ self.layers[layer].W_dec[:, written_layer - layer]
        return output
