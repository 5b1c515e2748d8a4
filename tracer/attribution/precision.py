"""The arithmetic of the engine's large products.

`float32` is exact to rounding. `tf32` rounds the operands to 10 bits of mantissa and adds up in float32, as NVIDIA's
tensor cores do; without such a card the rounding is done here, so that its effect can be measured anywhere. `bfloat16`
rounds operands and results to 8 bits of mantissa. What is added up over layers stays float32 in all of them.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Precision = Literal["float32", "tf32", "bfloat16"]


def rounded_to_tf32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Float32 values with their mantissa rounded to 10 bits, to nearest, ties away from zero."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def product(
    left: Float[Tensor, "row inner"], right: Float[Tensor, "inner column"], precision: Precision
) -> Float[Tensor, "row column"]:
    """`left @ right` in float32, computed as `precision` says."""
    if precision == "float32":
        return left @ right
    if precision == "bfloat16":
        return (left.bfloat16() @ right.bfloat16()).float()
    if left.is_cuda:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True
        try:
            return left @ right
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before
    return rounded_to_tf32(left) @ rounded_to_tf32(right)
