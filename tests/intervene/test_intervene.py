"""Interventions prove the edges: what an edit does under frozen attention, norms and MLPs is what the graph says."""

import pytest
import torch

from tests.attribution.matrix import Cell, model_of
from tracer.attribution.attribute import attribute
from tracer.errors import ConfigError
from tracer.intervene.edits import Edit
from tracer.intervene.intervene import generate, intervene
from tracer.model.replacement import ReplacementModel

PROMPT = "the capital of the state containing Dallas is"


def assert_doubling_moves_by_the_edges(model: ReplacementModel, prompt: str, n_features: int) -> None:
    graph = attribute(prompt, model)
    adjacency, layout = graph.adjacency(), graph.layout
    plain = intervene(prompt, model, [], direct_effects=True, before_nonlinearity=True)
    layers, positions, features = layout.features.unbind(1)
    chosen = torch.linspace(0, layout.n_features - 1, n_features).long().tolist()
    for node in chosen:
        layer, pos, feature = layout.features[node].tolist()
        edit = Edit(layer=layer, pos=pos, feature=feature, scale=2.0)
        doubled = intervene(prompt, model, [edit], direct_effects=True, before_nonlinearity=True)
        moved = torch.stack(doubled.activations) - torch.stack(plain.activations)
        expected = adjacency[: layout.n_features, node].clone()
        others = torch.arange(layout.n_features) != node
        torch.testing.assert_close(moved[layers, positions, features][others], expected[others], atol=5e-4, rtol=0)
        moved_logits = (doubled.logits - plain.logits)[-1]
        moved_targets = (moved_logits - moved_logits.mean())[[target.token_id for target in graph.targets]]
        torch.testing.assert_close(moved_targets, adjacency[layout.first_target :, node], atol=5e-4, rtol=0)


def test_doubling_a_feature_moves_everything_by_its_edges_on_the_demo_model(demo_model: ReplacementModel) -> None:
    assert_doubling_moves_by_the_edges(demo_model, PROMPT, 20)


def test_doubling_a_feature_moves_everything_by_its_edges_on_random_checkpoints(random_model: ReplacementModel) -> None:
    assert_doubling_moves_by_the_edges(random_model, "w3 w14 w15 w9 w26 w5", 20)


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("llama", "per-layer skip"), ("neox", "cross-layer skip"), ("gemma3", "cross-layer skip")],
)
def test_doubling_a_feature_moves_everything_by_its_edges_with_a_skip_connection(architecture: str, kind: str) -> None:
    model = model_of(Cell(architecture, kind, "topk", "mlp.hook_in -> mlp.hook_out"))
    assert_doubling_moves_by_the_edges(model, "w3 w14 w15 w9 w26 w5", 8)


def test_edges_equal_frozen_finite_differences(demo_cross_layer: ReplacementModel) -> None:
    graph = attribute(PROMPT, demo_cross_layer)
    layout, weights = graph.layout, graph.adjacency()[graph.layout.first_target]
    plain = intervene(PROMPT, demo_cross_layer, [], direct_effects=True).logits[-1]
    for node in weights[: layout.n_features].abs().topk(10).indices.tolist():
        layer, pos, feature = layout.features[node].tolist()
        edit = Edit(layer=layer, pos=pos, feature=feature, scale=1.5)
        moved = intervene(PROMPT, demo_cross_layer, [edit], direct_effects=True).logits[-1] - plain
        effect = moved[graph.targets[0].token_id] - moved.mean()
        assert float(effect) == pytest.approx(0.5 * float(weights[node]), abs=1e-4)


def test_no_edit_changes_nothing(demo_model: ReplacementModel) -> None:
    token_ids = demo_model.tokenize(PROMPT)
    logits = demo_model.forward(token_ids).logits
    for settings in ({}, {"direct_effects": True}, {"freeze_attention": False}):
        torch.testing.assert_close(intervene(PROMPT, demo_model, [], **settings).logits, logits, atol=1e-5, rtol=1e-5)


def test_setting_a_feature_to_what_it_is_changes_nothing(demo_model: ReplacementModel) -> None:
    activations = demo_model.get_activations(PROMPT)[0]
    edit = Edit(
        layer=0, pos=int(activations.pos[0]), feature=int(activations.feature[0]), value=float(activations.value[0])
    )
    edited, plain = intervene(PROMPT, demo_model, [edit]), intervene(PROMPT, demo_model, [])
    torch.testing.assert_close(edited.logits, plain.logits, atol=1e-5, rtol=1e-5)


def test_a_slice_a_list_and_single_positions_mean_the_same(demo_model: ReplacementModel) -> None:
    as_slice = [Edit(layer=1, pos=slice(3, 6), feature=5, value=4.0)]
    as_list = [Edit(layer=1, pos=[3, 4, 5], feature=5, value=4.0)]
    one_by_one = [Edit(layer=1, pos=pos, feature=5, value=4.0) for pos in (3, 4, -4)]
    logits = [intervene(PROMPT, demo_model, edits).logits for edits in (as_slice, as_list, one_by_one)]
    assert demo_model.tokenize(PROMPT).shape == (9,)
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


def test_an_edit_reaches_later_layers_unless_only_direct_effects_are_asked(demo_model: ReplacementModel) -> None:
    edit = [Edit(layer=0, pos=-1, feature=3, value=20.0)]
    plain = intervene(PROMPT, demo_model, [])
    free = intervene(PROMPT, demo_model, edit)
    direct = intervene(PROMPT, demo_model, edit, direct_effects=True)
    assert float(free.activations[0][-1, 3]) == 20.0
    assert not torch.equal(free.activations[3], plain.activations[3])
    assert not torch.allclose(free.logits[-1], direct.logits[-1], atol=1e-3)
    assert torch.allclose(free.logits[:-1], plain.logits[:-1], atol=1e-5), "earlier positions cannot see the edit"


def test_two_edits_of_one_place_count_once_and_the_later_one_holds(demo_model: ReplacementModel) -> None:
    first, second = Edit(layer=0, pos=8, feature=3, value=9.0), Edit(layer=0, pos=-1, feature=3, value=20.0)
    for settings in ({}, {"direct_effects": True}):
        once = intervene(PROMPT, demo_model, [second], **settings).logits
        assert torch.equal(intervene(PROMPT, demo_model, [first, second], **settings).logits, once)
        assert torch.equal(intervene(PROMPT, demo_model, [second, second], **settings).logits, once)


def test_a_slice_passes_over_the_special_tokens_position(demo_model: ReplacementModel) -> None:
    logits = [
        intervene(PROMPT, demo_model, [Edit(layer=0, pos=pos, feature=3, value=5.0)]).logits
        for pos in (slice(None), slice(1, None))
    ]
    assert torch.equal(logits[0], logits[1])


def test_top_tokens_name_the_answer(demo_model: ReplacementModel) -> None:
    tokens = intervene(PROMPT, demo_model, []).top_tokens(demo_model)
    assert tokens[0][0] == "Austin"
    assert len(tokens) == 5


def test_generation_without_edits_continues_as_the_model_does(demo_model: ReplacementModel) -> None:
    ids = generate(PROMPT, demo_model, [], n_tokens=2).tolist()
    assert demo_model.tokenizer.decode(ids[9:]) == "Austin ."


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit(layer=9, pos=0, feature=0, value=1.0), "layers"),
        (Edit(layer=0, pos=1, feature=10**6, value=1.0), "features"),
        (Edit(layer=0, pos=0, feature=0, value=1.0), "position 0"),
        (Edit(layer=0, pos=99, feature=0, value=1.0), "position"),
        (Edit(layer=0, pos=1, feature=0), "exactly one"),
        (Edit(layer=0, pos=1, feature=0, value=1.0, scale=1.0), "exactly one"),
    ],
)
def test_edits_that_name_nothing_are_refused(demo_model: ReplacementModel, edit: Edit, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        intervene(PROMPT, demo_model, [edit])
