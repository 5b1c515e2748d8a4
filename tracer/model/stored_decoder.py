"""Decoders that stay on disk: only the rows of active features are read, when they are asked for.

A cross-layer decoder has features times written layers times width entries, far more than the encoder; of these a
prompt uses the few features that fire.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecoder:
    """A decoder matrix in a safetensors file, of shape (feature, d_model) or (feature, written, d_model)."""

    path: Path
    name: str
    shape: tuple[int, int, int]
    """(feature, written, d_model), also where the file leaves a single written layer out."""

    def rows(self, feature: Int[Tensor, " row"], written_idx: int) -> Float[Tensor, "row d_model"]:
        """Decoder vectors of some features at one written layer, on the CPU and in the file's dtype."""
        if not len(feature):
            return torch.zeros(0, self.shape[2])
        distinct, place = feature.cpu().unique(return_inverse=True)
        with safe_open(self.path, framework="pt") as file:
            stored = file.get_slice(self.name)
            found = stored[distinct, written_idx] if len(stored.get_shape()) == 3 else stored[distinct]
        return found[place]

    def whole(self) -> Float[Tensor, "feature written d_model"]:
        """All of it, on the CPU and in the file's dtype."""
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(self.name).view(self.shape)

    @property
    def n_bytes(self) -> int:
        """What the whole decoder takes in float32."""
        return torch.Size(self.shape).numel() * 4
