"""Transcoders as data: sparse features that read a layer's MLP input and write MLP outputs.

A per-layer feature writes at its own layer; a cross-layer one at its own and every later layer (Ameisen et al. 2025).
Both are held in one form: `W_dec` of a layer has shape (feature, written, d_model), where index `w` of `written` is
layer `layer + w`. A skip connection (Paulo et al. 2025) adds a linear map of what the layer's transcoder reads to the
MLP output of its own layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.model.nonlinearity import Nonlinearity
from tracer.model.stored import StoredTensor

ReadPoint = Literal["mlp_in", "normalised", "resid_mid"]
"""What a feature reads: the MLP's input; the normalised stream before the norm's weight; or the stream before the
norm.
"""
WritePoint = Literal["mlp_out", "residual"]
"""What a feature writes: the MLP's own output, in front of a post-norm where there is one; or what is added to the
stream, behind it. Without post-norms both are the same.
"""
N_CHUNK_POSITIONS = 256
"""Positions encoded at once; bounds the one dense tensor of all features."""
N_CHUNK_FEATURES = 4096
"""Encoder rows held at once where the encoder stays on disk."""
N_CHUNK_ROWS = 16384
"""Decoder rows held at once while an MLP output is reconstructed."""
DENSE_SHARE = 1 / 64
"""Share of a layer's features active at a position from which on one product with the decoder is faster than adding up
rows; measured.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Active features of one layer, sorted by position, then feature."""

    pos: Int[Tensor, " active"]
    feature: Int[Tensor, " active"]
    value: Float[Tensor, " active"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTranscoder:
    """The features that read at one layer; a skip connection gives `read @ W_skip.T`."""

    W_enc: Float[Tensor, "feature d_model"] | StoredTensor
    b_enc: Float[Tensor, " feature"]
    nonlinearity: Nonlinearity
    W_dec: Float[Tensor, "feature written d_model"] | StoredTensor
    b_dec: Float[Tensor, " d_model"]
    W_skip: Float[Tensor, "d_model d_model"] | None = None

    @property
    def n_written(self) -> int:
        """Layers that each feature writes, its own first."""
        return self.W_dec.shape[1]

    def pre_activations(self, read: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch feature"]:
        """Encoder output before the nonlinearity; an encoder left on disk is read in parts."""
        if isinstance(self.W_enc, Tensor):
            return read @ self.W_enc.T + self.b_enc
        parts = torch.arange(len(self.b_enc)).split(N_CHUNK_FEATURES)
        return torch.cat([read @ self.encoder_rows(part).T for part in parts], dim=-1) + self.b_enc

    def pre_activation(self, read: Float[Tensor, " d_model"], feature: int) -> Float[Tensor, ""]:
        """That of one feature at one position."""
        (row,) = self.encoder_rows(torch.tensor([feature], device=self.b_enc.device))
        return read @ row + self.b_enc[feature]

    def encode(self, read: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch feature"]:
        """Activations, dense."""
        return self.nonlinearity.apply(self.pre_activations(read))

    def active(self, read: Float[Tensor, "pos d_model"], n_ignored: int) -> Activations:
        """Activations, sparse; those of the first `n_ignored` positions are left out."""
        parts = []
        for first in range(n_ignored, len(read), N_CHUNK_POSITIONS):
            dense = self.encode(read[first : first + N_CHUNK_POSITIONS])
            pos, feature = dense.nonzero(as_tuple=True)
            parts.append((pos + first, feature, dense[pos, feature]))
        nothing = (torch.zeros(0, dtype=torch.long, device=read.device),) * 2 + (self.b_enc[:0],)
        pos, feature, value = (torch.cat(part) for part in zip(nothing, *parts, strict=True))
        return Activations(pos=pos, feature=feature, value=value)

    def encoder_rows(self, feature: Int[Tensor, " row"]) -> Float[Tensor, "row d_model"]:
        """Encoder vectors of some features."""
        if isinstance(self.W_enc, StoredTensor):
            return self.W_enc.rows(feature).to(self.b_enc)
        return self.W_enc[feature]

    def decoder_rows(self, feature: Int[Tensor, " row"], written_idx: int) -> Float[Tensor, "row d_model"]:
        """Decoder vectors of some features at one written layer."""
        if isinstance(self.W_dec, StoredTensor):
            return self.W_dec.rows(feature, written_idx).to(self.b_dec)
        return self.W_dec[feature, written_idx]

    def write_vectors(self, feature: Int[Tensor, " row"]) -> Float[Tensor, "row written d_model"]:
        """Decoder vectors of some features at every layer that they write."""
        return torch.stack([self.decoder_rows(feature, written_idx) for written_idx in range(self.n_written)], dim=1)

    def decoded(self, active: Activations, written_idx: int, n_pos: int) -> Float[Tensor, "pos d_model"]:
        """What the active features write at one written layer, summed at each position."""
        output = torch.zeros(n_pos, len(self.b_dec), dtype=self.b_dec.dtype, device=self.b_dec.device)
        if len(active.pos) > DENSE_SHARE * n_pos * len(self.b_enc):
            distinct, place = active.feature.unique(return_inverse=True)
            values = output.new_zeros(n_pos, len(distinct)).index_put((active.pos, place), active.value)
            for part, of_part in zip(distinct.split(N_CHUNK_ROWS), values.split(N_CHUNK_ROWS, dim=1), strict=True):
                output = output + of_part @ self.decoder_rows(part, written_idx)
            return output
        for part in torch.arange(len(active.pos), device=active.pos.device).split(N_CHUNK_ROWS):
            rows = self.decoder_rows(active.feature[part], written_idx)
            output = output.index_add(0, active.pos[part], rows * active.value[part, None])
        return output

    def skip(self, read: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """What the skip connection adds to the MLP output; zero where there is none."""
        return torch.zeros_like(read) if self.W_skip is None else read @ self.W_skip.T


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscoderSet:
    """The transcoders of all layers, and where they read and write."""

    layers: tuple[LayerTranscoder, ...]
    read_point: ReadPoint
    write_point: WritePoint
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

    def reconstruction(
        self,
        active: Sequence[Activations],
        reads: Float[Tensor, "layer pos d_model"] | Sequence[Float[Tensor, "pos d_model"]],
        layer: int,
    ) -> Float[Tensor, "pos d_model"]:
        """MLP output of `layer` without its error: decoded features, decoder bias, skip connection.

        Args:
            active: active features of each layer; those of later layers may be missing.
            reads: what the transcoder of each layer reads; the same.
            layer: the layer that is written.
        """
        output = self.layers[layer].b_dec + self.layers[layer].skip(reads[layer])
        for source in range(layer + 1) if self.cross_layer else (layer,):
            output = output + self.layers[source].decoded(active[source], layer - source, len(reads[layer]))
        return output
