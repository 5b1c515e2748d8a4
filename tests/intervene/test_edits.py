"""Edits made of named groups."""

import torch

from tracer.attribution.attribute import attribute
from tracer.graph.formats.groups import Group, load_groups, save_groups
from tracer.graph.formats.groups import Groups as SavedGroups
from tracer.intervene.edits import Edit, edits_of
from tracer.intervene.intervene import intervene
from tracer.intervene.swaps import ablation_edits, most_influential
from tracer.model.replacement import ReplacementModel

DALLAS = "the capital of the state containing Dallas is"


def test_a_group_from_a_file_is_scaled_as_a_whole(demo_model: ReplacementModel, tmp_path) -> None:
    graph = attribute(DALLAS, demo_model)
    nodes = most_influential(graph, 5)
    members = [tuple(graph.layout.features[node].tolist()) for node in nodes]
    save_groups(SavedGroups(groups=(Group.of_features("strongest", members),)), tmp_path / "groups.yaml")
    (group,) = load_groups(tmp_path / "groups.yaml").groups
    gone = intervene(graph.token_ids, demo_model, edits_of(group, scale=0.0)).logits
    assert torch.equal(gone, intervene(graph.token_ids, demo_model, ablation_edits(graph, nodes)).logits)
    same = intervene(graph.token_ids, demo_model, edits_of(group, scale=1.0)).logits
    assert not torch.allclose(gone, same)
    torch.testing.assert_close(same, intervene(graph.token_ids, demo_model, []).logits)
    layer, pos, feature = members[0]
    assert edits_of(group, value=2.5)[0] == Edit(layer=layer, pos=pos, feature=feature, value=2.5)
