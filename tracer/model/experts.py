"""Holds the choice of experts fixed: an edit changes what a mixture of experts computes, not which of them are asked.

No hook of the bridge lies between the router and its experts, so the router module itself is wrapped for the time of a
`with`. The weights of the chosen experts still follow the edited stream.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.errors import ModelError

if TYPE_CHECKING:
    from tracer.model.replacement import ReplacementModel

RouterOutput = tuple[Tensor, Tensor, Tensor]
"""Logits of all experts, weights of the chosen ones, and which those are."""


@contextmanager
def frozen_experts(model: "ReplacementModel", token_ids: Int[Tensor, " pos"]) -> Iterator[None]:
    """Inside, tokens go to the experts that they go to in an unedited pass over `token_ids`.

    Raises:
        ModelError: the model's routers work in a way that is not known.
    """
    chosen: list[Tensor] = []

    def note(router: torch.nn.Module, _args: Any, output: RouterOutput) -> None:
        logits, weights, experts = output
        if not torch.allclose(_weights(router, logits, experts), weights.float(), atol=_rounding(weights)):
            raise _unknown_router("one that weights its experts otherwise")
        chosen.append(experts)

    def put_back(experts: Tensor) -> Callable[..., RouterOutput]:
        def hook_function(router: torch.nn.Module, _args: Any, output: RouterOutput) -> RouterOutput:
            return output[0], _weights(router, output[0], experts).to(output[1]), experts

        return hook_function

    routers = _routers(model)
    with torch.no_grad(), ExitStack() as stack:
        for router in routers:
            stack.enter_context(_wrapped(router, note))
        model.bridge(token_ids[None])
    with ExitStack() as stack:
        for router, experts in zip(routers, chosen, strict=True):
            stack.enter_context(_wrapped(router, put_back(experts)))
        yield


@contextmanager
def _wrapped(router: torch.nn.Module, hook_function: Callable[..., Any]) -> Iterator[None]:
    handle = router.register_forward_hook(hook_function)
    try:
        yield
    finally:
        handle.remove()


def _weights(
    router: torch.nn.Module, logits: Float[Tensor, "token expert"], experts: Int[Tensor, "token chosen"]
) -> Float[Tensor, "token chosen"]:
    """Softmax over all experts, and over the chosen ones alone unless the router says otherwise."""
    weights = logits.float().softmax(-1).gather(-1, experts)
    return weights / weights.sum(-1, keepdim=True) if getattr(router, "norm_topk_prob", True) else weights


def _rounding(weights: Float[Tensor, "token chosen"]) -> float:
    return max(1e-5, 2 * torch.finfo(weights.dtype).eps)


def _routers(model: "ReplacementModel") -> list[torch.nn.Module]:
    """The module of each layer that chooses experts; layers without experts have none."""
    from transformer_lens.model_bridge.generalized_components import MoEBridge

    mixtures = [block.mlp for block in model.bridge.blocks if isinstance(block.mlp, MoEBridge)]
    architecture = model.facts.architecture
    if not mixtures:
        return []
    if architecture is None or architecture.router is None:
        raise _unknown_router("a mixture of experts of an architecture outside the table")
    found = [getattr(mixture.original_component, architecture.router, None) for mixture in mixtures]
    return [router for router in found if router is not None]


def _unknown_router(found: str) -> ModelError:
    return ModelError(
        "router", found=found, expected="one whose choice of experts can be held fixed",
        to_do="Ask for direct effects only, where MLPs are frozen as a whole.",
    )  # fmt: skip
