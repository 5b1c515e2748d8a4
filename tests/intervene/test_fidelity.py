"""Fidelity of transcoders: exact at the two ends, perfect reconstruction and none at all, and counted by hand."""

import pytest
import torch

from tracer.intervene.fidelity import measure_fidelity
from tracer.model.nonlinearity import JumpReLU, ReLU
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder, TranscoderSet

PROMPTS = (
    "the capital of the state containing Dallas is",
    "when Mary and John went to the store John gave a book to",
    "the keys near the cabinet are",
)


def with_transcoders(model: ReplacementModel, layers: list[LayerTranscoder]) -> ReplacementModel:
    transcoders = TranscoderSet(
        layers=tuple(layers), read_point="mlp_in", write_point="mlp_out", cross_layer=False, model_name="made by hand"
    )
    return ReplacementModel(model.bridge, model.tokenizer, transcoders, model.facts)


def token_rows(model: ReplacementModel) -> list[torch.Tensor]:
    return [model.tokenize(prompt) for prompt in PROMPTS]


def lookup_layer(reads: torch.Tensor, outputs: torch.Tensor) -> LayerTranscoder:
    """One feature per read vector, which fires on it alone with activation 1 and writes that read's MLP output: the
    pseudo-inverse of the reads gives 1 on its own read and 0 on the others.
    """
    encoder = torch.linalg.pinv(reads.double()).T.float()
    return LayerTranscoder(
        W_enc=encoder, b_enc=torch.zeros(len(reads)), nonlinearity=JumpReLU(torch.full((len(reads),), 0.5)),
        W_dec=outputs[:, None], b_dec=torch.zeros(reads.shape[1]),
    )  # fmt: skip


def perfect(model: ReplacementModel, rows: list[torch.Tensor]) -> ReplacementModel:
    """The model with transcoders that know the MLP outputs of `rows` by heart."""
    forwards = [model.forward(token_ids) for token_ids in rows]
    layers = []
    for layer in range(model.n_layers):
        reads = torch.cat([forward.reads[layer, 1:] for forward in forwards])
        outputs = torch.cat([forward.mlp_outputs[layer, 1:] for forward in forwards])
        layers.append(lookup_layer(*distinct(reads, outputs)))
    return with_transcoders(model, layers)


def distinct(reads: torch.Tensor, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each different read once: two prompts that begin alike share theirs."""
    kept: list[int] = []
    for idx, read in enumerate(reads):
        if all(not torch.allclose(read, reads[other], atol=1e-4) for other in kept):
            kept.append(idx)
    return reads[kept], outputs[kept]


def silent(model: ReplacementModel) -> ReplacementModel:
    """The model with transcoders that never fire and write nothing."""
    d_model = model.facts.d_model
    layer = LayerTranscoder(
        W_enc=torch.zeros(5, d_model), b_enc=torch.full((5,), -1.0), nonlinearity=ReLU(),
        W_dec=torch.zeros(5, 1, d_model), b_dec=torch.zeros(d_model),
    )  # fmt: skip
    return with_transcoders(model, [layer] * model.n_layers)


def bare_loss(model: ReplacementModel, rows: list[torch.Tensor]) -> float:
    losses = []
    for token_ids in rows:
        log_probs = model.forward(token_ids).logits.log_softmax(-1)
        places = zip(range(len(token_ids) - 1), token_ids[1:].tolist(), strict=True)
        losses.append(-sum(float(log_probs[pos, token_id]) for pos, token_id in places) / (len(token_ids) - 1))
    return sum(losses) / len(losses)


def test_perfect_reconstruction_leaves_the_bare_loss(demo_model: ReplacementModel) -> None:
    rows = token_rows(demo_model)
    fidelity = measure_fidelity(perfect(demo_model, rows), rows)
    assert fidelity.loss == pytest.approx(bare_loss(demo_model, rows), abs=1e-5)
    assert fidelity.loss_replaced == pytest.approx(fidelity.loss, abs=1e-3)
    assert fidelity.loss_recovered == pytest.approx(1.0, abs=1e-3)
    assert fidelity.explained_variance == pytest.approx((1.0,) * 4, abs=1e-4)
    assert fidelity.l0 == (1.0,) * 4
    assert fidelity.n_dead == (0,) * 4


def test_transcoders_that_write_nothing_are_the_ablation(demo_model: ReplacementModel) -> None:
    rows = token_rows(demo_model)
    fidelity = measure_fidelity(silent(demo_model), rows)
    assert fidelity.loss_ablated > fidelity.loss + 0.1, "ablation that costs nothing proves nothing"
    assert fidelity.loss_replaced == pytest.approx(fidelity.loss_ablated, abs=1e-5)
    assert fidelity.loss_recovered == pytest.approx(0.0, abs=1e-4)
    assert fidelity.l0 == (0.0,) * 4
    assert fidelity.n_dead == (5,) * 4
    assert all(share <= 0 for share in fidelity.explained_variance)


def test_figures_of_the_shipped_transcoders_equal_those_counted_by_hand(demo_model: ReplacementModel) -> None:
    rows = token_rows(demo_model)
    fidelity = measure_fidelity(demo_model, rows)
    n_tokens = sum(len(token_ids) - 1 for token_ids in rows)
    active = [demo_model.get_activations(prompt) for prompt in PROMPTS]
    for layer, transcoder in enumerate(demo_model.transcoders.layers):
        fired = [feature for found in active for feature in found[layer].feature.tolist()]
        assert fidelity.l0[layer] == pytest.approx(len(fired) / n_tokens)
        assert fidelity.n_dead[layer] == len(transcoder.b_enc) - len(set(fired))
    assert 0.9 < fidelity.loss_recovered <= 1.01
    assert all(0.8 < share < 1 for share in fidelity.explained_variance)


def with_feature_on_special_token(model: ReplacementModel, token_ids: torch.Tensor) -> ReplacementModel:
    """The model with one more feature per layer that fires on the special token alone and writes a large vector."""
    layers = []
    for layer, read in zip(model.transcoders.layers, model.forward(token_ids).reads[:, 0], strict=True):
        assert isinstance(layer.nonlinearity, JumpReLU)
        layers.append(
            LayerTranscoder(
                W_enc=torch.cat([layer.W_enc, read[None] / read.square().sum()]),
                b_enc=torch.cat([layer.b_enc, torch.zeros(1)]),
                nonlinearity=JumpReLU(torch.cat([layer.nonlinearity.threshold, torch.tensor([0.99])])),
                W_dec=torch.cat([layer.W_dec, torch.full_like(layer.W_dec[:1], 100.0)]),
                b_dec=layer.b_dec,
            )
        )
    return with_transcoders(model, layers)


def test_the_special_tokens_position_counts_in_no_figure(demo_model: ReplacementModel) -> None:
    rows = token_rows(demo_model)
    louder = with_feature_on_special_token(demo_model, rows[0])
    for layer, read in zip(louder.transcoders.layers, louder.forward(rows[0]).reads, strict=True):
        assert layer.encode(read)[:, -1].nonzero().tolist() == [[0]], "the made-up feature fires there and nowhere else"
    found, expected = measure_fidelity(louder, rows), measure_fidelity(demo_model, rows)
    assert found.n_dead == tuple(n_dead + 1 for n_dead in expected.n_dead)
    assert found.l0 == expected.l0
    assert found.loss_replaced == pytest.approx(expected.loss_replaced, abs=1e-5)
    assert found.explained_variance == pytest.approx(expected.explained_variance, abs=1e-5)
