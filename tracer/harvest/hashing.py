"""Random numbers that come from names: 64-bit hashes of whole numbers, the same on every device and in every order."""

import torch
from jaxtyping import Int
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def hashed(first: Int[Tensor, "*shape"], *others: Int[Tensor, "*other"] | int) -> Int[Tensor, "*all"]:
    """Hash of several numbers, which broadcast, as signed 64-bit numbers (Steele, Lea and Flood 2014, SplitMix64)."""
    result = _mixed(first.to(torch.int64) + _GOLDEN)
    for other in others:
        result = _mixed((result ^ other) + _GOLDEN)
    return result


def is_drawn(draw: Int[Tensor, "*shape"], share: float) -> Tensor:
    """Which hashes fall into the first `share` of all.

    Args:
        draw: hashes.
        share: from 0; 1 and more takes all.
    """
    if share >= 1:
        return torch.ones_like(draw, dtype=torch.bool)
    return draw < int(share * 2**64) - 2**63


def _mixed(number: Tensor) -> Tensor:
    number = (number ^ _shifted(number, 30)) * _FIRST
    number = (number ^ _shifted(number, 27)) * _SECOND
    return number ^ _shifted(number, 31)


def _shifted(number: Tensor, n_bits: int) -> Tensor:
    """Towards smaller, zeros coming in from above."""
    return (number >> n_bits) & (2 ** (64 - n_bits) - 1)
