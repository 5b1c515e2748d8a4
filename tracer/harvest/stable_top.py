"""The largest values of each row, equal ones in the order of their columns: tables must not hang on chance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def stable_top(
    values: Float[Tensor, "row column"], n: int
) -> tuple[Float[Tensor, "row place"], Int[Tensor, "row place"]]:
    """The `n` largest values of each row and their columns, largest first; of equal values the lower columns.

    Args:
        values: none of them not a number.
        n: how many; all where there are fewer columns.
    """
    n = min(n, values.shape[1])
    if n == 0:
        return values[:, :0], torch.zeros_like(values[:, :0], dtype=torch.long)
    largest = values.topk(n, dim=1)
    top, column = largest.values.clone(), largest.indices
    # Which of equal values topk takes is not said: rows where that matters are rare, and sorted whole.
    is_tied = (values >= top[:, -1:]).sum(1) > n
    is_tied |= (top[:, 1:] == top[:, :-1]).any(1)
    if bool(is_tied.any()):
        ordered = values[is_tied].sort(dim=1, descending=True, stable=True)
        top[is_tied], column[is_tied] = ordered.values[:, :n], ordered.indices[:, :n]
    return top, column
