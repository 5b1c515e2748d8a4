"""The reconstruction check: sound sets pass in silence, sets that are read the wrong way are named layer by layer."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tests.checkpoints import loaded, write_transcoders
from tests.conftest import DEMO_FILES
from tracer.model.demo.text import packed_rows
from tracer.model.nonlinearity import ReLU
from tracer.model.readers import circuit_tracer
from tracer.model.reconstruction import (
    PROBE_TEXT,
    explained,
    poor_reconstruction,
    probe_ids,
    warn_of_poor_reconstruction,
)
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import LayerTranscoder

LANGUAGE_MODEL = f"{DEMO_FILES}/language_model"
PROMPT = "the capital of the state containing Dallas is"


def with_layers(model: ReplacementModel, layers: Sequence[LayerTranscoder]) -> ReplacementModel:
    transcoders = replace(model.transcoders, layers=tuple(layers))
    return ReplacementModel(model.bridge, model.tokenizer, transcoders, model.facts)


def permuted(layer: LayerTranscoder) -> LayerTranscoder:
    """The decoder's features in another order than the encoder's."""
    assert isinstance(layer.W_dec, Tensor)
    return replace(layer, W_dec=layer.W_dec.roll(1, 0))


def named_layers(complaint: str | None) -> list[int]:
    """The layers that a complaint names."""
    assert complaint is not None
    listed = complaint.partition("on a short text): ")[2].partition(";")[0]
    return [int(part.split()[0]) for part in listed.split(", ")]


def with_skips(model: ReplacementModel, factor: float) -> ReplacementModel:
    """Skip connections that alone explain nearly all of the probe text, and features for the rest, times a factor."""
    forward, layers = model.forward(probe_ids(model)), []
    for layer, transcoder in enumerate(model.transcoders.layers):
        reads, outputs = forward.reads[layer, 1:], forward.mlp_outputs[layer, 1:]
        left = outputs - transcoder.b_dec
        W_skip = 0.9 * torch.linalg.lstsq(reads, left, driver="gelsd").solution.T
        active = transcoder.encode(reads)
        W_dec = torch.linalg.lstsq(active, left - reads @ W_skip.T, driver="gelsd").solution
        layers.append(replace(transcoder, W_skip=W_skip, W_dec=factor * W_dec[:, None]))
    return with_layers(model, layers)


@pytest.mark.parametrize("kind", ["per_layer", "cross_layer"])
def test_the_shipped_sets_give_no_warning(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    model = ReplacementModel.from_pretrained(LANGUAGE_MODEL, f"{DEMO_FILES}/{kind}", device="cpu")
    assert not caplog.records
    assert explained(model, probe_ids(model)).min() > 0.8


@pytest.mark.parametrize("kind", ["demo_model", "demo_cross_layer"])
def test_shares_are_those_of_the_formula(kind: str, request: pytest.FixtureRequest) -> None:
    model: ReplacementModel = request.getfixturevalue(kind)
    token_ids = model.tokenize(PROMPT)
    forward = model.forward(token_ids)
    shares = explained(model, token_ids)
    for layer in range(model.n_layers):
        output = torch.zeros(forward.n_pos, model.facts.d_model)
        for source, transcoder in enumerate(model.transcoders.layers):
            if 0 <= layer - source < transcoder.n_written:
                output += transcoder.encode(forward.reads[source]) @ transcoder.W_dec[:, layer - source]
        output += model.transcoders.layers[layer].b_dec
        found = forward.mlp_outputs[layer, 1:]
        unexplained = (found - output[1:]).pow(2).sum() / (found.var(0, unbiased=False).sum() * len(found))
        torch.testing.assert_close(shares[layer], 1 - unexplained, atol=1e-5, rtol=0)


def test_the_mean_itself_explains_nothing(demo_model: ReplacementModel) -> None:
    token_ids = demo_model.tokenize(PROMPT)
    means = demo_model.forward(token_ids).mlp_outputs[:, 1:].mean(1)
    constant = [
        replace(layer, W_dec=torch.zeros_like(layer.W_dec), b_dec=mean)
        for layer, mean in zip(demo_model.transcoders.layers, means, strict=True)
    ]
    shares = explained(with_layers(demo_model, constant), token_ids)
    torch.testing.assert_close(shares, torch.zeros(demo_model.n_layers), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["demo_model", "demo_cross_layer"])
def test_a_permuted_decoder_is_named(kind: str, request: pytest.FixtureRequest) -> None:
    model: ReplacementModel = request.getfixturevalue(kind)
    assert poor_reconstruction(model) is None
    every = with_layers(model, [permuted(layer) for layer in model.transcoders.layers])
    assert named_layers(poor_reconstruction(every)) == [0, 1, 2, 3]


def test_only_the_layers_that_are_wrong_are_named(demo_model: ReplacementModel) -> None:
    layers = demo_model.transcoders.layers
    wrong = [permuted(layer) if idx in {1, 3} else layer for idx, layer in enumerate(layers)]
    assert named_layers(poor_reconstruction(with_layers(demo_model, wrong))) == [1, 3]
    swapped = with_layers(demo_model, [layers[1], layers[0], *layers[2:]])
    assert named_layers(poor_reconstruction(swapped)) == [0, 1]


def test_another_hook_than_that_of_training_is_found(demo_model: ReplacementModel) -> None:
    transcoders = replace(demo_model.transcoders, read_point="resid_mid")
    wrong = ReplacementModel(demo_model.bridge, demo_model.tokenizer, transcoders, demo_model.facts)
    assert named_layers(poor_reconstruction(wrong)) == [0, 1, 2, 3]


def fitted_square_layers(model: ReplacementModel) -> list[LayerTranscoder]:
    """As many random features as the width, with decoders fitted by ridge regression to the MLP outputs."""
    d_model = model.facts.d_model
    rows, _ = packed_rows(model.tokenizer, Random(0), n_rows=30, n_ctx=model.facts.n_ctx, answer_weight=1.0)
    forwards = model.forward_batch(list(rows))
    layers = []
    for layer in range(model.n_layers):
        read = torch.cat([forward.reads[layer, 1:] for forward in forwards])
        output = torch.cat([forward.mlp_outputs[layer, 1:] for forward in forwards])
        W_enc = torch.randn(d_model, d_model, generator=torch.Generator().manual_seed(layer))
        W_enc *= d_model**-0.5 / read.std()
        inputs = torch.cat([(read @ W_enc.T).relu(), torch.ones(len(read), 1)], dim=1)
        fitted = torch.linalg.solve(inputs.T @ inputs + torch.eye(d_model + 1), inputs.T @ output)
        layers.append(
            LayerTranscoder(
                W_enc=W_enc, b_enc=torch.zeros(d_model), nonlinearity=ReLU(), W_dec=fitted[:-1, None], b_dec=fitted[-1]
            )
        )
    return layers


def test_square_matrices_that_are_transposed_are_named(
    demo_model: ReplacementModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    square = with_layers(demo_model, fitted_square_layers(demo_model))
    assert poor_reconstruction(square) is None
    layers = square.transcoders.layers
    encoders = [replace(layer, W_enc=layer.W_enc.T.contiguous()) for layer in layers]
    assert named_layers(poor_reconstruction(with_layers(square, encoders))) == [0, 1, 2, 3]
    decoders = [replace(layer, W_dec=layer.W_dec[:, 0].T[:, None].contiguous()) for layer in layers]
    assert named_layers(poor_reconstruction(with_layers(square, decoders))) == [0, 1, 2, 3]
    # Nothing but what it computes tells this set from a sound one, so loading must.
    transposed = replace(square.transcoders, layers=tuple(encoders))
    circuit_tracer.write(tmp_path, transposed, model_name="transposed", dtype=torch.float32)
    with caplog.at_level(logging.WARNING):
        ReplacementModel.from_pretrained(LANGUAGE_MODEL, tmp_path, device="cpu")
    (record,) = caplog.records
    assert record.name == "tracer.model.reconstruction"
    assert "a matrix is transposed" in record.getMessage()
    caplog.clear()
    ReplacementModel.from_pretrained(LANGUAGE_MODEL, tmp_path, device="cpu", check=False)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["gpt2", "gemma2", "neox"])
@pytest.mark.parametrize("cross_layer", [False, True])
def test_random_transcoders_are_warned_of_once(
    kind: str, cross_layer: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint, _ = loaded(kind)
    caplog.clear()
    folder = write_transcoders(checkpoint, tmp_path, cross_layer=cross_layer)
    model = ReplacementModel.from_pretrained(checkpoint, folder, device="cpu", lazy_encoder=True, lazy_decoder=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert named_layers(caplog.records[0].getMessage()) == [0, 1, 2]
    warn_of_poor_reconstruction(model)
    assert caplog.records[0].getMessage() == caplog.records[1].getMessage()


def test_matrices_that_hold_no_numbers_are_named(demo_model: ReplacementModel) -> None:
    first, *others = demo_model.transcoders.layers
    wrong = with_layers(demo_model, [replace(first, b_dec=first.b_dec * torch.nan), *others])
    assert "0 (nan)" in str(poor_reconstruction(wrong))


def test_a_vocabulary_that_cannot_say_the_text_gets_one_of_the_models_own(demo_model: ReplacementModel) -> None:
    token_ids = probe_ids(demo_model)
    assert torch.equal(token_ids, probe_ids(demo_model))
    special = set(demo_model.tokenizer.all_special_ids)
    assert int(token_ids[0]) == demo_model.tokenizer.bos_token_id
    assert not special & set(token_ids[1:].tolist())
    # Its own language, not any tokens: the model finds them likely.
    log_probs = demo_model.forward(token_ids).logits.log_softmax(-1)[:-1]
    assert -log_probs.gather(1, token_ids[1:, None]).mean() < 3


def test_a_vocabulary_that_can_say_the_text_says_it() -> None:
    _, model = loaded("llama")
    vocabulary = {token: idx for idx, token in enumerate(["<bos>", "<unk>", *sorted(set(PROBE_TEXT))])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", unk_token="<unk>")
    token_ids = probe_ids(ReplacementModel(model.bridge, tokenizer, model.transcoders, model.facts))
    letters = tokenizer.convert_ids_to_tokens(token_ids.tolist())
    assert letters == ["<bos>", *PROBE_TEXT[: model.facts.n_ctx - 1]]


def test_features_that_only_harm_do_not_hide_behind_a_skip_connection(demo_model: ReplacementModel) -> None:
    assert poor_reconstruction(with_skips(demo_model, factor=1.0)) is None
    assert named_layers(poor_reconstruction(with_skips(demo_model, factor=-1.0))) == list(range(demo_model.n_layers))
