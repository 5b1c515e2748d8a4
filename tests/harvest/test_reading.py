"""One pass over windows of the embedded model: what counts, what is left out, and that features are as elsewhere."""

import pytest
import torch

from tracer.corpus.windows import Window, windows_of
from tracer.errors import ConfigError
from tracer.harvest.reading import WindowReader, encoders_of
from tracer.harvest.windows import PADDING, document_id, document_key

TEXTS = ("the capital of the state containing Dallas is", "Mary and John went to the park . John gave the")


def read(model, texts=TEXTS, ratio=10.0, layers=None):
    windows = [
        window
        for number, text in enumerate(texts)
        for window in windows_of(
            f"{number:016x}", model.tokenize(text).tolist(), model.special_token_rule, window_tokens=64
        )
    ]
    return WindowReader(model, encoders_of(model, layers), high_norm_ratio=ratio).read(windows), windows


@pytest.mark.parametrize("name", ["demo_model", "demo_cross_layer"])
def test_features_of_padded_windows_are_those_of_single_prompts(name, request):
    model = request.getfixturevalue(name)
    batch = read(model)[0].batch
    for row, text in enumerate(TEXTS):
        for firings, active in zip(batch.layers, model.get_activations(text), strict=True):
            own = firings.row == row
            order = (firings.pos[own] * 10_000 + firings.feature[own]).argsort()
            assert firings.feature[own][order].tolist() == active.feature.tolist()
            assert firings.pos[own][order].tolist() == active.pos.tolist()
            torch.testing.assert_close(firings.value[own][order], active.value, rtol=1e-4, atol=1e-4)


def test_padding_special_tokens_and_nothing_else_are_left_out(demo_model):
    special = demo_model.special_token_rule.prepend_id
    ids = demo_model.tokenize(TEXTS[0]).tolist()
    window = Window(document_id="0" * 16, start=0, token_ids=(*ids, special, *ids[1:3]))
    short = Window(document_id="1" * 16, start=0, token_ids=tuple(ids))
    found = WindowReader(demo_model, encoders_of(demo_model), high_norm_ratio=10.0).read([window, short])
    expected = [[token != special for token in window.token_ids], [False] + [True] * (len(ids) - 1) + [False] * 3]
    assert found.batch.eligible.tolist() == expected
    assert found.n_special.tolist() == [2, 1]
    assert found.batch.token_ids[1, len(ids) :].tolist() == [PADDING] * 3


def test_positions_of_high_norm_are_left_out_and_counted(demo_model):
    everything = read(demo_model, ratio=None)[0]
    some = read(demo_model, ratio=1.01)[0]
    n_left = everything.batch.eligible.sum(1) - some.batch.eligible.sum(1)
    assert n_left.tolist() == some.n_high_norm.tolist()
    assert some.n_high_norm.sum() > 0
    for firings in some.batch.layers:
        assert bool(some.batch.eligible[firings.row, firings.pos].all())


def test_later_layers_are_not_run(demo_model):
    seen = []
    hooks = [(f"blocks.{layer}.hook_in", lambda value, hook, layer=layer: seen.append(layer)) for layer in range(4)]
    with demo_model.hooks(hooks):
        read(demo_model, layers=[0, 1])
    assert seen == [0, 1]


def test_a_layer_that_is_not_there_is_refused(demo_model):
    with pytest.raises(ConfigError, match="0 to 3"):
        encoders_of(demo_model, [4])


def test_keys_of_documents_keep_the_order_of_their_ids():
    ids = ["0" * 16, "7fffffffffffffff", "8000000000000000", "f" * 16]
    assert [document_id(document_key(name)) for name in ids] == ids
    assert sorted(ids, key=document_key) == ids
