"""How often whole numbers occur, when there are far fewer distinct ones than there could be."""

import torch
from jaxtyping import Int
from torch import Tensor

N_PENDING = 2**21
"""Distinct numbers of batches that are held beside what was added up."""


class KeyCounts:
    """Counts that grow with the distinct numbers seen, not with how many were seen."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor]] = []
        self._n_pending = 0

    def add(self, keys: Int[Tensor, " key"], n_keys: int) -> None:
        """Count some numbers, each below `n_keys`."""
        if len(keys):
            self.add_counted(*distinct(keys, n_keys))

    def add_counted(self, keys: Int[Tensor, " key"], counts: Int[Tensor, " key"]) -> None:
        """Add distinct numbers with how often each occurred."""
        self._parts.append((keys, counts))
        self._n_pending += len(keys)
        if self._n_pending > max(N_PENDING, len(self._parts[0][0])):
            self._add_up()

    def total(self) -> tuple[Int[Tensor, " key"], Int[Tensor, " key"]]:
        """The distinct numbers in order, and how often each occurred."""
        if not self._parts:
            nothing = torch.zeros(0, dtype=torch.long)
            return nothing, nothing
        self._add_up()
        return self._parts[0]

    def _add_up(self) -> None:
        if len(self._parts) > 1:
            keys, place = torch.cat([keys for keys, _ in self._parts]).unique(return_inverse=True)
            counts = torch.cat([counts for _, counts in self._parts])
            self._parts = [(keys, torch.zeros_like(keys).index_add_(0, place, counts))]
        self._n_pending = 0


def distinct(keys: Int[Tensor, " key"], n_keys: int) -> tuple[Int[Tensor, " distinct"], Int[Tensor, " distinct"]]:
    """Distinct numbers, each below `n_keys`, in order, and how often each occurs."""
    if n_keys > 4 * len(keys) + 2**16:  # then sorting them is less work than a place for each number there could be
        found, counts = keys.unique(return_counts=True)
        return found, counts
    counts = torch.bincount(keys, minlength=n_keys)
    found = counts.nonzero().flatten()
    return found, counts[found]
