"""A forward pass that ends where what was asked for has been seen: later layers are never run."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

if TYPE_CHECKING:
    from tracer.model.replacement import ReplacementModel


class _EverythingSeen(Exception):
    """Raised inside the pass once every hook has fired."""


@torch.no_grad()
def values_at(
    model: "ReplacementModel", hook_names: Collection[str], token_ids: Int[Tensor, "prompt pos"]
) -> dict[str, Tensor]:
    """What some hooks hold, in float32, by name; the pass stops at the last of them.

    Args:
        model: the plain model is run, its transcoders are not used.
        hook_names: hooks of the bridge.
        token_ids: prompts of one length, or right-padded ones: attention is causal.

    Raises:
        ModelError: the bridge lacks a hook.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str, value: Tensor) -> None:
        found[name] = value.detach()

    look_at(model, {name: partial(keep, name) for name in hook_names}, token_ids)
    return found


@torch.no_grad()
def look_at(
    model: "ReplacementModel", looks: Mapping[str, Callable[[Tensor], None]], token_ids: Int[Tensor, "prompt pos"]
) -> None:
    """Show what some hooks hold, in float32, to a function each; the pass stops at the last of them.

    Args:
        model: the plain model is run, its transcoders are not used.
        looks: what looks at each hook of the bridge, by its name; called once.
        token_ids: as for `values_at`.

    Raises:
        ModelError: the bridge lacks a hook.
    """
    waiting = set(looks)

    def shown(name: str) -> Callable[..., None]:
        def hook_function(value: Tensor, **_: Any) -> None:
            looks[name](value)
            waiting.discard(name)
            if not waiting:
                raise _EverythingSeen

        return hook_function

    if not looks:
        return
    with suppress(_EverythingSeen), model.hooks([(name, shown(name)) for name in sorted(looks)]) as bridge:
        bridge(token_ids)
    assert not waiting, "every hook of a pass fires"


def in_batches(prompts: Sequence[Int[Tensor, " _"]], n_tokens: int) -> list[list[int]]:
    """Places of prompts grouped into batches of at most `n_tokens` tokens with their padding, in the given order."""
    batches: list[list[int]] = []
    longest = 0
    for place, token_ids in enumerate(prompts):
        longest = max(longest, len(token_ids))
        if not batches or (len(batches[-1]) + 1) * longest > n_tokens:
            batches.append([])
            longest = len(token_ids)
        batches[-1].append(place)
    return batches
