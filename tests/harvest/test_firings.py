"""Activations as frames: what the encoder says, less what is no number."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from tests.checkpoints import loaded, write_transcoders
from tracer.harvest import counts, examples
from tracer.harvest.firings import collect, firing_frame, token_frame
from tracer.model.readers.registry import read_transcoders
from tracer.model.replacement import ReplacementModel
from tracer.model.transcoders import Activations


def test_a_prompts_frame_holds_every_activation_of_the_encoder(demo_model: ReplacementModel) -> None:
    prompt = "the capital of the state containing Dallas is"
    forward = demo_model.forward(demo_model.tokenize(prompt))
    frame = firing_frame(7, demo_model.get_activations(prompt))
    assert set(frame["prompt_idx"]) == {7}
    assert frame["pos"].min() >= 1
    found = {(layer, pos, feature): value for _, layer, pos, feature, value in frame.rows()}
    assert len(found) == len(frame)
    for layer, transcoder in enumerate(demo_model.transcoders.layers):
        dense = transcoder.encode(forward.reads[layer])
        expected = {
            (layer, pos, feature): float(dense[pos, feature]) for pos, feature in dense.nonzero().tolist() if pos >= 1
        }
        assert {place: value for place, value in found.items() if place[0] == layer} == expected


def test_activations_that_are_no_number_are_left_out() -> None:
    values = torch.tensor([1.0, float("nan"), float("inf"), -2.0])
    active = Activations(pos=torch.tensor([1, 2, 3, 4]), feature=torch.tensor([0, 0, 0, 5]), value=values)
    assert firing_frame(0, [active]).select("pos", "feature", "activation").rows() == [(1, 0, 1.0), (4, 5, -2.0)]


def test_no_prompts_make_empty_frames_with_the_same_columns() -> None:
    data = collect([], [], [], [])
    assert data.firings.columns == ["prompt_idx", "layer", "pos", "feature", "activation"]
    assert data.eligible.columns == ["prompt_idx", "pos", "token_id", "token"]
    assert data.firings.is_empty()
    assert data.eligible.is_empty()


def test_positions_to_ignore_are_those_of_each_prompt() -> None:
    tokens = [token_frame(prompt_idx, [9, 8, 7, 6, 5], list("abcde")) for prompt_idx in range(3)]
    data = collect(["x", "y", "z"], [], tokens, [1, 4, 5])
    assert data.eligible.select("prompt_idx", "pos").rows() == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 4)]


def test_negative_activations_of_topk_are_counted_as_they_are() -> None:
    checkpoint, trunk = loaded("llama")
    with TemporaryDirectory() as folder:
        write_transcoders(checkpoint, Path(folder), cross_layer=False, nonlinearity="topk")
        transcoders = read_transcoders(Path(folder), trunk.facts, device=torch.device("cpu"))
    model = ReplacementModel(trunk.bridge, trunk.tokenizer, transcoders, trunk.facts)
    token_ids = model.tokenize("w3 w14 w15 w9 w26").tolist()
    frame = firing_frame(0, model.get_activations(token_ids))
    data = collect(["x"], [frame], [token_frame(0, token_ids, [str(idx) for idx in token_ids])], [1])
    negative = frame.filter(frame["activation"] < 0)
    assert len(negative) > 10
    bins = counts.activation_histogram(data)
    assert bins.filter(bins["is_negative"])["n"].sum() == len(negative)
    summed = counts.feature_counts(data)
    assert summed["activation_sum"].sum() == pytest.approx(frame["activation"].sum())
    only_negative = summed.filter(summed["activation_max"] < 0)
    assert len(only_negative) > 0
    top = examples.top_examples(data, 3, " ").join(only_negative, on=["layer", "feature"])
    assert top["activation"].to_list() == top["activation_max"].to_list()
