"""Every architecture of the table: the bridge computes what transformers does; facts are read off config.json."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.checkpoints import ARCHITECTURE_KINDS, loaded, write_checkpoint, write_transcoders
from tracer.errors import ModelError
from tracer.model.architectures import ARCHITECTURES, CheckpointFacts, checkpoint_facts
from tracer.model.forward import Forward
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import ReadPoint, WritePoint

PROMPT = "w3 w14 w15 w9 w26 w5 w35 w8"
MISSING = ("final_logit_softcapping", "use_parallel_residual", "num_key_value_heads", "head_dim")


@pytest.mark.parametrize("architecture", ARCHITECTURE_KINDS)
def test_logits_equal_plain_transformers(architecture: str) -> None:
    checkpoint, model = loaded(architecture)
    token_ids = model.tokenize(PROMPT)
    plain = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        expected = plain(token_ids[None]).logits[0]
    torch.testing.assert_close(model.forward(token_ids).logits, expected, atol=1e-4, rtol=1e-4)


def test_the_kinds_tested_are_those_of_the_table() -> None:
    names = {loaded(kind)[1].facts.architecture_name for kind in ARCHITECTURE_KINDS}
    assert names == set(ARCHITECTURES)


def fields_of(forward: Forward) -> dict[str, torch.Tensor]:
    """Everything captured that is a tensor, by name."""
    found = {name: getattr(forward, name) for name in Forward.__slots__}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


@pytest.mark.parametrize("architecture", ARCHITECTURE_KINDS)
def test_a_prompts_forward_pass_does_not_depend_on_its_batch(architecture: str) -> None:
    _, model = loaded(architecture)
    token_ids = model.tokenize(PROMPT)
    prompts = [token_ids[:4], token_ids, token_ids[[0, 5, 2, 3, 7]]]
    for prompt, batched in zip(prompts, model.forward_batch(prompts), strict=True):
        alone = fields_of(model.forward(prompt))
        assert fields_of(batched).keys() == alone.keys()
        for name, value in fields_of(batched).items():
            torch.testing.assert_close(value, alone[name], atol=2e-5, rtol=1e-4, msg=name)


def facts_with(kind: str, folder: Path, *, without: tuple[str, ...] = (), **settings: object) -> CheckpointFacts:
    """Facts of a checkpoint whose config.json is changed."""
    config = json.loads((loaded(kind)[0] / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in without}))
    return checkpoint_facts(folder)


def test_facts_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    llama = facts_with("llama", tmp_path)
    assert (llama.n_layers, llama.d_model, llama.n_ctx, llama.d_vocab) == (3, 32, 32, 60)
    assert (llama.n_heads, llama.n_kv_heads, llama.d_head) == (4, 2, 8)
    gpt2 = facts_with("gpt2", tmp_path)
    assert (gpt2.n_heads, gpt2.n_kv_heads, gpt2.d_head, gpt2.n_ctx) == (4, 4, 8, 32)
    assert facts_with("neox", tmp_path).parallel
    assert not facts_with("neox_sequential", tmp_path).parallel
    assert facts_with("gemma3", tmp_path).post_norms
    assert not gpt2.post_norms
    assert facts_with("qwen3_moe", tmp_path).mixture_of_experts
    assert not gpt2.mixture_of_experts


def test_settings_that_config_json_leaves_out_are_those_of_the_architecture(tmp_path: Path) -> None:
    assert facts_with("gemma2", tmp_path, without=MISSING).final_softcap == 30.0
    assert facts_with("gemma2", tmp_path).final_softcap == 3.0
    assert facts_with("gemma3", tmp_path, without=MISSING).final_softcap is None
    assert facts_with("neox", tmp_path, without=MISSING).parallel
    llama = facts_with("llama", tmp_path, without=MISSING)
    assert (llama.n_kv_heads, llama.d_head, llama.parallel) == (4, 8, False)


def test_positions_to_ignore_are_the_special_token_or_a_chat_models_opening(tmp_path: Path) -> None:
    gemma3, llama = facts_with("gemma3", tmp_path), facts_with("llama", tmp_path)
    opening = [2, 105, 2364, 107]
    assert gemma3.n_ignored_positions([*opening, 5, 6]) == 4
    assert gemma3.n_ignored_positions([2, 105, 2364]) == gemma3.n_ignored_positions([0, 5, 6]) == 1
    assert llama.n_ignored_positions([*opening, 5, 6]) == 1


def model_in(folder: Path, kind: str) -> ReplacementModel:
    checkpoint = write_checkpoint(kind, folder / "checkpoint")
    transcoders = write_transcoders(checkpoint, folder / "transcoders", cross_layer=False)
    return ReplacementModel.from_pretrained(checkpoint, transcoders, device="cpu")


def test_an_architecture_outside_the_table_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = model_in(tmp_path, "mistral")
    assert not model.facts.explicit
    assert "not in the table" in caplog.text
    forward = model.forward(model.tokenize(PROMPT))
    assert bool(forward.patterns.isnan().all()), "what is not known must not look like a number"
    assert len(forward.frozen()) == 3 * model.n_layers + 1


def test_a_model_that_the_bridge_computes_otherwise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="differ from transformers'"):
        model_in(tmp_path, "cohere")


def test_a_hook_that_the_bridge_lacks_is_named(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("phi", tmp_path / "checkpoint")
    folder = write_transcoders(checkpoint, tmp_path / "set", cross_layer=False, read_hook="hook_resid_mid")
    with pytest.raises(ModelError, match=r"blocks\.0\.hook_resid_mid"):
        ReplacementModel.from_pretrained(checkpoint, folder, device="cpu")


def test_a_normalised_read_means_nothing_on_an_architecture_outside_the_table(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("mistral", tmp_path / "checkpoint")
    folder = write_transcoders(checkpoint, tmp_path / "set", cross_layer=False, read_hook="ln2.hook_normalized")
    with pytest.raises(ModelError, match="outside the table"):
        ReplacementModel.from_pretrained(checkpoint, folder, device="cpu")


def meanings(model: ReplacementModel, read_point: ReadPoint, write_point: WritePoint) -> Forward:
    """A forward pass captured at other places than those of the model's transcoders."""
    transcoders = replace(model.transcoders, read_point=read_point, write_point=write_point)
    other = ReplacementModel(model.bridge, model.tokenizer, transcoders, model.facts)
    return other.forward(other.tokenize(PROMPT))


@torch.no_grad()
@pytest.mark.parametrize("architecture", ARCHITECTURE_KINDS)
def test_read_and_write_points_mean_what_they_say(architecture: str) -> None:
    _, model = loaded(architecture)
    streams: dict[str, torch.Tensor] = {}
    names = [f"blocks.{layer}.{name}" for layer in range(model.n_layers) for name in ("hook_in", "hook_out")]
    attention = "ln1_post" if model.facts.post_norms else "attn"
    names += [f"blocks.{layer}.{attention}.hook_out" for layer in range(model.n_layers)]
    with model.hooks((name, lambda value, hook, name=name: streams.__setitem__(name, value[0])) for name in names) as b:
        b(model.tokenize(PROMPT)[None])
    normalised = meanings(model, "normalised", "residual")
    weighted = meanings(model, "mlp_in", "mlp_out")
    for layer, weights in enumerate(model.weights.layers):
        start, end = streams[f"blocks.{layer}.hook_in"], streams[f"blocks.{layer}.hook_out"]
        middle = start + streams[f"blocks.{layer}.{attention}.hook_out"]
        torch.testing.assert_close(normalised.mlp_outputs[layer], end - middle, atol=1e-5, rtol=1e-4)
        if not model.facts.post_norms:
            assert torch.equal(weighted.mlp_outputs, normalised.mlp_outputs)
        norm, read = weights.mlp_norm, start if model.facts.parallel else middle
        if not model.facts.parallel:
            torch.testing.assert_close(
                meanings(model, "resid_mid", "mlp_out").reads[layer], middle, atol=1e-5, rtol=1e-4
            )
        expected = norm.centre(read) / normalised.mlp_scales[layer, :, None]
        torch.testing.assert_close(normalised.reads[layer], expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(weighted.reads[layer], expected * norm.weight + norm.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURE_KINDS)
def test_the_stream_starts_as_the_embedding_but_for_learned_positions(architecture: str) -> None:
    _, model = loaded(architecture)
    forward = model.forward(model.tokenize(PROMPT))
    assert torch.equal(forward.embedding, forward.stream_start) != (architecture == "gpt2")
    scale = model.facts.d_model**0.5 if architecture.startswith("gemma") else 1.0
    expected = model.bridge.W_E[forward.token_ids].detach() * scale
    torch.testing.assert_close(forward.embedding, expected, atol=1e-5, rtol=1e-5)
