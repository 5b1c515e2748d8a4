"""Promoted tokens against a plain matrix product with the checkpoint's own tensors."""

import pytest
import torch

from tracer.harvest import promoted
from tracer.harvest.promoted import promoted_tokens
from tracer.model.replacement import ReplacementModel


def plain_logits(model: ReplacementModel, layer: int, feature: int) -> torch.Tensor:
    """What one unit of the feature adds to the logits at a last-norm scale of one, demeaned over the vocabulary."""
    written = model.transcoders.layers[layer].W_dec[feature].double()
    direction = written.sum(0)
    if model.facts.architecture.centred_norm:
        direction = direction - direction.mean()
    logits = (direction * model.bridge.ln_final.weight.double()) @ model.bridge.W_U.double()
    return logits - logits.mean()


@pytest.mark.parametrize("feature", [(0, 5), (1, 0), (2, 47)])
def test_promoted_tokens_are_those_of_the_plain_matrix_product(
    random_model: ReplacementModel, feature: tuple[int, int]
) -> None:
    with torch.no_grad():
        (record,) = promoted_tokens(random_model, [feature], 6)
        expected = plain_logits(random_model, *feature)
    order = expected.argsort(descending=True).tolist()
    assert (record["layer"], record["feature"]) == feature
    assert record["top_tokens"] == [random_model.tokenizer.decode([idx]) for idx in order[:6]]
    assert record["bottom_tokens"] == [random_model.tokenizer.decode([idx]) for idx in order[:-7:-1]]
    assert record["top_token_logits"] == pytest.approx(expected[order[:6]].tolist(), abs=1e-4)
    assert record["bottom_token_logits"] == pytest.approx(expected[order[:-7:-1]].tolist(), abs=1e-4)
    decoder = random_model.transcoders.layers[feature[0]].W_dec[feature[1]]
    assert record["decoder_norm"] == pytest.approx(float(decoder.square().sum().sqrt()), rel=1e-5)


def test_more_features_than_a_tile_come_back_in_the_order_asked(
    demo_cross_layer: ReplacementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(promoted, "N_TILE_VALUES", 10_000)
    features = [(idx % 4, 767 - idx) for idx in range(259)]
    with torch.no_grad():
        records = promoted_tokens(demo_cross_layer, features, 2)
        alone = promoted_tokens(demo_cross_layer, features[-1:], 2)[0]
    assert [(record["layer"], record["feature"]) for record in records] == features
    assert records[-1]["top_tokens"] == alone["top_tokens"]
    assert records[-1]["top_token_logits"] == pytest.approx(alone["top_token_logits"], abs=1e-5)


def test_no_more_tokens_are_shown_than_the_vocabulary_has(random_model: ReplacementModel) -> None:
    with torch.no_grad():
        (record,) = promoted_tokens(random_model, [(0, 0)], 10**6)
    d_vocab = random_model.weights.W_U.shape[1]
    assert len(record["top_tokens"]) == len(record["bottom_tokens"]) == d_vocab
    assert record["top_token_logits"] == record["bottom_token_logits"][::-1]
