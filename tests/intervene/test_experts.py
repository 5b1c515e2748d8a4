"""Interventions in a mixture of experts: a token's experts stay those of the unedited prompt."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.checkpoints import loaded, write_checkpoint, write_transcoders
from tracer.errors import ModelError
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import intervene
from tracer.model.replacement import ReplacementModel

PROMPT = "w3 w14 w15 w9 w26 w5"
EDIT = Edit(layer=0, pos=slice(2, 6), feature=3, value=60.0)


def experts_asked(model: ReplacementModel, edits: list[Edit]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which experts of the last layer each token is sent to in a run with edits, and with what weights."""
    seen: list[Any] = []

    def note(_module: torch.nn.Module, args: Any) -> None:
        seen.append(args)

    mixture = model.bridge.blocks[model.n_layers - 1].mlp.original_component
    handle = mixture.experts.register_forward_pre_hook(note)
    try:
        intervene(PROMPT, model, edits)
    finally:
        handle.remove()
    _, experts, weights = seen[-1]
    return experts, weights


@pytest.mark.parametrize("architecture", ["qwen3_moe", "gpt_oss"])
def test_experts_stay_and_their_weights_follow(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = loaded(architecture)
    plain, plain_weights = experts_asked(model, [])
    kept, weights = experts_asked(model, [EDIT])
    assert torch.equal(kept, plain)
    assert not torch.allclose(weights, plain_weights, atol=1e-3)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)))
    monkeypatch.setattr("tracer.intervene.intervene.frozen_experts", lambda *_: nullcontext())
    free, _ = experts_asked(model, [EDIT])
    assert not torch.equal(free, plain), "an edit that changes no choice proves nothing"


@pytest.mark.parametrize("architecture", ["qwen3_moe", "gpt_oss"])
def test_no_edit_changes_nothing_and_nothing_stays_wrapped(architecture: str) -> None:
    _, model = loaded(architecture)
    # whoever had the model before may have left hooks of its own
    hooks = [len(module._forward_hooks) for module in model.bridge.modules()]
    logits = model.forward(model.tokenize(PROMPT)).logits
    torch.testing.assert_close(intervene(PROMPT, model, []).logits, logits, atol=1e-5, rtol=1e-5)
    intervene(PROMPT, model, [EDIT])
    assert [len(module._forward_hooks) for module in model.bridge.modules()] == hooks
    assert torch.equal(model.forward(model.tokenize(PROMPT)).logits, logits)


def test_routers_whose_weights_do_not_sum_to_one_are_known_too(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("qwen3_moe", tmp_path / "checkpoint", norm_topk_prob=False)
    folder = write_transcoders(checkpoint, tmp_path / "transcoders", cross_layer=False)
    model = ReplacementModel.from_pretrained(checkpoint, folder, device="cpu")
    _, weights = experts_asked(model, [])
    assert float(weights.sum(-1).max()) < 0.999
    experts_asked(model, [EDIT])


def test_a_router_that_works_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = loaded("qwen3_moe")
    router = model.bridge.blocks[0].mlp.original_component.gate.original_component
    plain = router.forward

    def doubled(states: torch.Tensor) -> Any:
        logits, weights, experts = plain(states)
        return logits, 2 * weights, experts

    monkeypatch.setattr(router, "forward", doubled)
    with pytest.raises(ModelError, match="weights its experts otherwise"):
        intervene(PROMPT, model, [EDIT])
    intervene(PROMPT, model, [EDIT], direct_effects=True)


def test_a_mixture_of_experts_outside_the_table_has_direct_effects_only() -> None:
    _, model = loaded("mixtral")
    intervene(PROMPT, model, [EDIT], direct_effects=True)
    with pytest.raises(ModelError, match="outside the table"):
        intervene(PROMPT, model, [EDIT])
