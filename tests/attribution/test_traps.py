"""The places where tools for attribution go wrong, one test each."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.attribution.matrix import Cell, largest_row_difference, model_of, node_values, row_nodes
from tests.checkpoints import loaded, write_checkpoint, write_transcoders
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, Rows, prepare
from tracer.model.replacement import ReplacementModel

PROMPT = "w3 w14 w15 w9 w26 w5"
MLP_HOOKS = "mlp.hook_in -> mlp.hook_out"


def engine_rows(model: ReplacementModel, prepared: Prepared) -> Rows:
    return ExplicitEngine(model, prepared, memory_budget_bytes=2**24).rows(row_nodes(prepared))


def prepared_of(model: ReplacementModel, prompt: str | list[int] = PROMPT) -> Prepared:
    return prepare(model, model.tokenize(prompt))


def assert_rows_are_right(model: ReplacementModel, prepared: Prepared) -> Rows:
    rows, oracle = engine_rows(model, prepared), Oracle(model, prepared).rows(row_nodes(prepared))
    assert largest_row_difference(rows, oracle) <= 1e-4
    values = node_values(model, prepared)
    torch.testing.assert_close(rows.weights.sum(1) + rows.bias, values, atol=1e-4, rtol=1e-4)
    return rows


def test_targets_are_logits_before_a_final_soft_cap_and_weights_are_probabilities_after_it() -> None:
    model = model_of(Cell("gemma2", "per-layer", "jumprelu", MLP_HOOKS))
    prepared = prepared_of(model)
    capped, uncapped = prepared.forward.logits[-1], prepared.forward.uncapped_logits[-1]
    torch.testing.assert_close(capped, 3.0 * (uncapped / 3.0).tanh(), atol=1e-5, rtol=1e-5)
    assert float((capped - uncapped).abs().max()) > 0.1, "a cap that does nothing proves nothing"
    probabilities, demeaned = capped.softmax(-1), uncapped - uncapped.mean()
    rows = engine_rows(model, prepared)
    sums = (rows.weights.sum(1) + rows.bias)[prepared.layout.n_features :]
    for target, row_sum in zip(prepared.targets.targets, sums.tolist(), strict=True):
        assert target.weight == pytest.approx(float(probabilities[target.token_id]), abs=1e-6)
        assert target.logit == pytest.approx(float(demeaned[target.token_id]), abs=1e-5)
        assert row_sum == pytest.approx(target.logit, abs=1e-4)


def test_a_soft_cap_on_attention_scores_is_in_the_frozen_pattern(tmp_path: Path) -> None:
    _, capped = loaded("gemma2")
    checkpoint = write_checkpoint("gemma2", tmp_path / "checkpoint", attn_logit_softcapping=None)
    transcoders = write_transcoders(checkpoint, tmp_path / "transcoders", cross_layer=False)
    free = ReplacementModel.from_pretrained(checkpoint, transcoders, device="cpu")
    prepared = prepared_of(capped)
    difference = prepared.forward.patterns - free.forward(prepared.forward.token_ids).patterns
    assert float(difference.abs().max()) > 1e-2, "a cap that does nothing proves nothing"
    assert_rows_are_right(capped, prepared)


@pytest.mark.parametrize("architecture", ["gpt2", "neox"])
def test_a_special_token_of_id_zero_counts(architecture: str) -> None:
    _, model = loaded(architecture)
    assert model.tokenizer.bos_token_id == 0
    prepared = prepared_of(model, [4, 15, 16])
    assert prepared.forward.token_ids.tolist() == [0, 4, 15, 16]
    assert prepared_of(model, [0, 4, 15, 16]).forward.token_ids.tolist() == [0, 4, 15, 16]
    assert int(prepared.layout.features[:, 1].min()) >= 1


def test_negative_activations_of_topk_are_nodes_with_right_rows() -> None:
    model = model_of(Cell("llama", "per-layer", "topk", MLP_HOOKS))
    prepared = prepared_of(model)
    negative = prepared.activations < 0
    assert bool(negative.any())
    for layer, transcoder in enumerate(model.transcoders.layers):
        of_layer = prepared.layout.features[:, 0] == layer
        assert int(of_layer.sum()) == (prepared.layout.n_pos - 1) * transcoder.nonlinearity.k
    rows = assert_rows_are_right(model, prepared)
    written_by_negative = rows.weights[:, : prepared.layout.n_features][:, negative]
    assert float(written_by_negative.abs().max()) > 1e-2


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_oss"])
def test_what_biases_and_learned_positions_give_is_the_bias_of_a_row_and_no_nodes(architecture: str) -> None:
    model = model_of(Cell(architecture, "per-layer", "jumprelu", MLP_HOOKS))
    prepared = prepared_of(model)
    rows = assert_rows_are_right(model, prepared)
    assert float(rows.bias.abs().median()) > 1e-2, "biases that are all small prove nothing"
    torch.testing.assert_close(prepared.forward.embedding, model.bridge.W_E[prepared.forward.token_ids])


@pytest.mark.parametrize("cross_layer", [False, True])
def test_a_skip_matrix_goes_through_the_graph_the_way_round_that_its_file_means(
    tmp_path: Path, cross_layer: bool
) -> None:
    checkpoint, _ = loaded("llama")
    folder = write_transcoders(checkpoint, tmp_path, cross_layer=cross_layer, skip=True, n_features=8)
    model = ReplacementModel.from_pretrained(checkpoint, folder, device="cpu")
    prepared = prepared_of(model)
    assert_rows_are_right(model, prepared)
    for layer, (read, output) in enumerate(zip(prepared.forward.reads, prepared.forward.mlp_outputs, strict=True)):
        file, name = (f"W_enc_{layer}", f"W_skip_{layer}") if cross_layer else (f"layer_{layer}", "W_skip")
        in_file = load_file(folder / f"{file}.safetensors")[name]
        transcoder = model.transcoders.layers[layer]
        expected = output - transcoder.b_dec - (read @ in_file if cross_layer else read @ in_file.T)
        for source in range(layer + 1) if cross_layer else (layer,):
            other = model.transcoders.layers[source]
            expected -= other.encode(prepared.forward.reads[source]) @ other.W_dec[:, layer - source]
        torch.testing.assert_close(prepared.errors[layer, 1:], expected[1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["per-layer skip", "cross-layer skip"])
def test_ignored_positions_have_no_feature_and_no_error_but_pass_the_stream_on(kind: str) -> None:
    model = model_of(Cell("gemma2", kind, "jumprelu", "hook_resid_mid -> mlp.hook_out"))
    prepared = prepared_of(model)
    assert int(prepared.layout.features[:, 1].min()) == 1
    assert not prepared.errors[:, 0].any()
    rows = assert_rows_are_right(model, prepared)
    assert float(rows.weights[:, prepared.layout.first_token].abs().max()) > 1e-2


def test_the_opening_of_a_gemma_3_chat_is_ignored_as_a_whole(tmp_path: Path) -> None:
    checkpoint = write_checkpoint("gemma3", tmp_path / "checkpoint", d_vocab=2400)
    folder = write_transcoders(checkpoint, tmp_path / "transcoders", cross_layer=True, skip=True, n_features=8)
    model = ReplacementModel.from_pretrained(checkpoint, folder, device="cpu")
    opening = torch.tensor([2, 105, 2364, 107])
    for token_ids, n_ignored in (
        (torch.cat([opening, torch.tensor([7, 8, 9])]), 4),
        (torch.tensor([2, 105, 2364, 5, 7, 8, 9]), 1),
        (opening, 4),
    ):
        prepared = prepare(model, token_ids)
        assert prepared.n_ignored == n_ignored
        assert not prepared.errors[:, :n_ignored].any()
        assert prepared.layout.n_features == 0 or int(prepared.layout.features[:, 1].min()) >= n_ignored
        assert_rows_are_right(model, prepared)


@pytest.mark.parametrize("architecture", ["qwen3_moe", "gpt_oss"])
def test_experts_are_frozen_with_their_mlp(architecture: str) -> None:
    model = model_of(Cell(architecture, "per-layer", "jumprelu", MLP_HOOKS))
    assert model.facts.mixture_of_experts
    assert_rows_are_right(model, prepared_of(model))


def test_attention_that_goes_to_a_sink_carries_no_value_and_no_bias() -> None:
    model = model_of(Cell("gpt_oss", "per-layer", "jumprelu", MLP_HOOKS))
    prepared = prepared_of(model)
    assert float(prepared.forward.patterns.sum(-1).max()) < 0.999
    assert_rows_are_right(model, prepared)
