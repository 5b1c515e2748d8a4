"""Language models in half precision: the bridge still computes what transformers does, graphs stay what they are."""

from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.checkpoints import loaded
from tracer import Graph, ReplacementModel, attribute
from tracer.errors import ModelError
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import intervene
from tracer.model import booting
from tracer.model.references import resolve

DEMO = "package:tracer/model/demo/files"
DEMO_PROMPT, RANDOM_PROMPT = "the capital of the state containing Dallas is", "w3 w14 w15 w9 w26 w5"
HALF = (torch.bfloat16, torch.float16)
ROUNDING = {torch.bfloat16: 2.0**-7, torch.float16: 2.0**-9}
"""What values may differ by, as a share of the largest: about the rounding of every layer of these small models."""
KINDS = ("gpt2", "llama", "gemma2", "qwen3_moe")


@cache
def half_model(kind: str, dtype: torch.dtype) -> ReplacementModel:
    checkpoint = loaded(kind)[0]
    return ReplacementModel.from_pretrained(checkpoint, checkpoint.parent / "transcoders", device="cpu", dtype=dtype)


@cache
def demo_model(dtype: torch.dtype, transcoders: str = "per_layer") -> ReplacementModel:
    return ReplacementModel.from_pretrained(
        f"{DEMO}/language_model", f"{DEMO}/{transcoders}", device="cpu", dtype=dtype
    )


def nodes_of(graph: Graph) -> set[tuple[object, ...]]:
    return set(graph.nodes().select("kind", "layer", "pos", "feature").iter_rows())


def jaccard(one: Graph, other: Graph) -> float:
    first, second = nodes_of(one), nodes_of(other)
    return len(first & second) / len(first | second)


def largest_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_equal_those_of_transformers_in_the_same_precision(kind: str, dtype: torch.dtype) -> None:
    model = half_model(kind, dtype)
    plain = AutoModelForCausalLM.from_pretrained(loaded(kind)[0], dtype=dtype, attn_implementation="eager")
    token_ids = model.tokenize(RANDOM_PROMPT)
    with torch.no_grad():
        expected = plain(token_ids[None]).logits[0]
    assert expected.dtype == dtype
    assert largest_difference(model.forward(token_ids).logits, expected.float()) <= ROUNDING[dtype]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_sum_to_the_captured_values_within_the_rounding(kind: str, dtype: torch.dtype) -> None:
    model = half_model(kind, dtype)
    graph, forward = attribute(RANDOM_PROMPT, model), model.forward(model.tokenize(RANDOM_PROMPT))
    n_features, first_target = graph.layout.n_features, graph.layout.first_target
    sums = graph.adjacency().sum(1) + graph.row_bias
    values = torch.stack([
        model.transcoders.layers[layer].pre_activation(forward.reads[layer, pos], feature)
        for layer, pos, feature in graph.layout.features.tolist()
    ])
    logits = forward.uncapped_logits[-1]
    demeaned = torch.stack([logits[target.token_id] - logits.mean() for target in graph.targets])
    assert largest_difference(sums[:n_features], values) <= ROUNDING[dtype]
    assert largest_difference(sums[first_target:], demeaned) <= ROUNDING[dtype]


@pytest.mark.parametrize("transcoders", ["per_layer", "cross_layer"])
def test_a_graph_in_bfloat16_is_close_to_that_in_float32(transcoders: str) -> None:
    exact = attribute(DEMO_PROMPT, demo_model(torch.float32, transcoders))
    found = attribute(DEMO_PROMPT, demo_model(torch.bfloat16, transcoders))
    assert jaccard(found, exact) >= 0.95
    assert jaccard(found.prune(), exact.prune()) >= 0.9
    assert found.targets[0].token == exact.targets[0].token
    assert found.targets[0].weight == pytest.approx(exact.targets[0].weight, abs=0.01)


def test_weights_are_held_in_the_precision_asked_and_everything_else_in_float32() -> None:
    model = demo_model(torch.bfloat16)
    assert {parameter.dtype for parameter in model.bridge.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in model.weights.tensors()} == {torch.float32}
    forward = model.forward(model.tokenize(DEMO_PROMPT))
    captured = [forward.reads, forward.mlp_outputs, forward.patterns, forward.mlp_scales, forward.logits]
    assert {value.dtype for value in captured} == {torch.float32}
    assert {active.value.dtype for active in model.active_features(forward)} == {torch.float32}


def test_the_oracle_agrees_in_half_precision() -> None:
    model = demo_model(torch.float16)
    found = attribute(DEMO_PROMPT, model).adjacency()
    oracle = attribute(DEMO_PROMPT, model, engine="oracle").adjacency()
    difference = (found - oracle).abs().amax(1) / oracle.abs().amax(1).clamp_min(1e-6)
    assert float(difference.max()) < 0.01


@pytest.mark.parametrize("kind", ["demo", "qwen3_moe"])
def test_an_intervention_in_half_precision_does_what_it_does_in_float32(kind: str) -> None:
    is_demo = kind == "demo"
    exact = demo_model(torch.float32) if is_demo else loaded(kind)[1]
    half = demo_model(torch.bfloat16) if is_demo else half_model(kind, torch.bfloat16)
    prompt = DEMO_PROMPT if is_demo else RANDOM_PROMPT
    layer, pos, feature = attribute(prompt, exact).layout.features[-1].tolist()
    edit = Edit(layer=layer, pos=pos, feature=feature, value=4.0)
    expected, found = (intervene(prompt, model, [edit]).logits for model in (exact, half))
    assert found.dtype == torch.float32
    assert largest_difference(found, expected) < 0.05
    # Elsewhere a feature may cross its threshold by rounding.
    replaced, expected = (model.replaced_logits(model.tokenize(prompt))[-1] for model in (half, exact))
    assert largest_difference(replaced, expected) < 0.05


def test_a_precision_that_cannot_be_checked_is_refused() -> None:
    with pytest.raises(ModelError, match=r"dtype: found torch\.float64; expected torch\.float32 or"):
        demo_model(torch.float64)
    with pytest.raises(ModelError, match=r"torch\.bfloat16 for MistralForCausalLM, .* expected torch\.float32"):
        half_model("mistral", torch.bfloat16)


def test_a_bridge_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(resolve(f"{DEMO}/language_model"))
    monkeypatch.setitem(booting.MAX_BRIDGE_DIFFERENCE, torch.bfloat16, -1.0)
    with pytest.raises(ModelError, match="differ from transformers' by"):
        ReplacementModel.from_pretrained(folder, f"{DEMO}/per_layer", device="cpu", dtype=torch.bfloat16)
