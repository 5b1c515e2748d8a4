"""What one forward pass captures: enough to rebuild the stream, the patterns and the logits by hand."""

import pytest
import torch

from tracer.model.forward import Capture, Forward
from tracer.model.hook_names import HookNames
from tracer.model.replacement import ReplacementModel

PROMPT = "w3 w14 w15 w9 w26 w5"


@pytest.fixture(scope="module")
def forward(random_model: ReplacementModel) -> Forward:
    return random_model.forward(random_model.tokenize(PROMPT))


@torch.no_grad()
def normalised(model: ReplacementModel, stream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The stream behind a norm in front of its weight, and the norm's scale."""
    if model.facts.architecture.centred_norm:
        stream = stream - stream.mean(-1, keepdim=True)
    epsilon = model.bridge.cfg.eps
    scale = (stream.square().mean(-1, keepdim=True) + epsilon).sqrt()
    return stream / scale, scale[..., 0]


def test_shapes_are_those_of_the_model(random_model: ReplacementModel, forward: Forward) -> None:
    n_pos, n_layers, d_model = 7, random_model.n_layers, random_model.facts.d_model
    assert forward.n_pos == len(forward.token_ids) == n_pos
    assert forward.embedding.shape == forward.stream_start.shape == (n_pos, d_model)
    assert forward.reads.shape == forward.mlp_outputs.shape == (n_layers, n_pos, d_model)
    assert forward.patterns.shape == (n_layers, 4, n_pos, n_pos)
    assert forward.attention_scales.shape == forward.mlp_scales.shape == (n_layers, n_pos)
    assert forward.final_scale.shape == (n_pos,)


def test_patterns_are_causal_shares(forward: Forward) -> None:
    torch.testing.assert_close(forward.patterns.sum(-1), torch.ones_like(forward.patterns[..., 0]))
    assert not forward.patterns.triu(1).any()


def test_embeddings_are_the_checkpoints_rows_and_positions_come_on_top(
    random_model: ReplacementModel, forward: Forward
) -> None:
    with torch.no_grad():
        assert torch.equal(forward.embedding, random_model.bridge.W_E[forward.token_ids])
    has_learned_positions = random_model.facts.architecture.name == "GPT2LMHeadModel"
    assert torch.equal(forward.stream_start, forward.embedding) != has_learned_positions


@torch.no_grad()
def test_the_stream_rebuilt_from_what_was_captured_gives_scales_reads_and_logits(
    random_model: ReplacementModel, forward: Forward
) -> None:
    weights, stream = random_model.weights, forward.stream_start
    for layer, found in enumerate(weights.layers):
        value, scale = normalised(random_model, stream)
        torch.testing.assert_close(forward.attention_scales[layer], scale, atol=1e-4, rtol=1e-4)
        n_heads_per_kv = found.W_O.shape[0] // found.W_V.shape[0]
        values = torch.einsum("khd,pd->kph", found.W_V, stream / scale[:, None]).repeat_interleave(n_heads_per_kv, 0)
        mixed = forward.patterns[layer] @ values
        written = torch.einsum("aph,ahd->pd", mixed, found.W_O)
        stream = stream + written + found.head_bias.sum(0) + found.output_bias
        value, scale = normalised(random_model, stream)
        torch.testing.assert_close(forward.mlp_scales[layer], scale, atol=1e-4, rtol=1e-4)
        read = value * found.mlp_norm.weight + found.mlp_norm.bias
        torch.testing.assert_close(forward.reads[layer], read, atol=1e-4, rtol=1e-4)
        stream = stream + forward.mlp_outputs[layer]
    value, scale = normalised(random_model, stream)
    torch.testing.assert_close(forward.final_scale, scale, atol=1e-4, rtol=1e-4)
    logits = (value * weights.final_norm.weight + weights.final_norm.bias) @ weights.W_U + weights.b_U
    torch.testing.assert_close(forward.logits, logits, atol=2e-4, rtol=1e-4)


def test_hook_names_are_hooks_of_the_bridge_and_each_is_named_once(random_model: ReplacementModel) -> None:
    offered = list(random_model.bridge.hook_dict)
    for read_point in ("mlp_in", "normalised", "resid_mid"):
        for write_point in ("mlp_out", "residual"):
            hook_names = HookNames(facts=random_model.facts, read_point=read_point, write_point=write_point)
            names = [name for name, _ in Capture(hook_names, offered).hooks()]
            assert len(set(names)) == len(names)
            assert set(names) <= set(offered)


def test_the_forward_pass_of_a_prefix_is_the_prefix_of_the_forward_pass(
    random_model: ReplacementModel, forward: Forward
) -> None:
    prefix = random_model.forward(forward.token_ids[:4])
    torch.testing.assert_close(prefix.reads, forward.reads[:, :4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(prefix.logits, forward.logits[:4], atol=1e-5, rtol=1e-5)
