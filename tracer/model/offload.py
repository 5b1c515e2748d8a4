"""Weights that rows do not need lie elsewhere while rows are computed: in host memory, or in a file without a name.

The explicit engine needs the weights of attention's values and outputs and the unembedding. Everything else of the
language model (its MLPs above all, queries and keys, embeddings) is only needed for the next forward pass.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Offload = Literal["cpu", "disk"]


class OffloadedWeights:
    """Parameters with their copies elsewhere, made once; `away` swaps them in and out.

    A file on disk is unlinked before it holds a byte, so nothing is left behind however the process ends; its folder is
    that of `tempfile` (TMPDIR).
    """

    def __init__(self, parameters: Iterable[Tensor], needed: Iterable[Tensor], to: Offload) -> None:
        kept = {tensor.untyped_storage().data_ptr() for tensor in needed}
        self.parameters = [
            parameter
            for parameter in parameters
            if parameter.untyped_storage().data_ptr() not in kept
            and (to == "disk" or parameter.device.type != "cpu")
        ]  # fmt: skip
        self._elsewhere = [_on_disk(each) if to == "disk" else each.detach().cpu() for each in self.parameters]

    @property
    def n_bytes(self) -> int:
        """What is not held on the parameters' device meanwhile."""
        return sum(each.numel() * each.element_size() for each in self._elsewhere)

    @contextmanager
    def away(self) -> Iterator[None]:
        """The parameters hold their copies inside, and values on their own device again afterwards."""
        devices = [parameter.device for parameter in self.parameters]
        for parameter, copy in zip(self.parameters, self._elsewhere, strict=True):
            parameter.data = copy
        try:
            yield
        finally:
            for parameter, copy, device in zip(self.parameters, self._elsewhere, devices, strict=True):
                parameter.data = copy.to(device, copy=True)


def _on_disk(tensor: Tensor) -> Tensor:
    """A copy whose memory is a mapped file."""
    plain = tensor.detach().cpu().contiguous()
    if not plain.numel():
        return plain
    with tempfile.TemporaryFile(prefix="tracer-") as file:
        mapped = np.memmap(file, dtype=np.uint8, mode="w+", shape=(plain.numel() * plain.element_size(),))
    copy = torch.from_numpy(mapped).view(plain.dtype).view(plain.shape)
    return copy.copy_(plain)
