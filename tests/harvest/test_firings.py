"""Activations as frames: what the encoder says, less what is no number."""

import torch

from tracer.harvest.firings import collect, firing_frame
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
    data = collect([], [], [], 1)
    assert data.firings.columns == ["prompt_idx", "layer", "pos", "feature", "activation"]
    assert data.eligible.columns == ["prompt_idx", "pos", "token_id", "token"]
    assert data.firings.is_empty()
    assert data.eligible.is_empty()
