"""Swaps between two prompts, their random controls, and the interval of a rate."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from tracer.attribution.attribute import attribute
from tracer.graph.graph import Graph
from tracer.intervene import swaps
from tracer.intervene.intervene import intervene
from tracer.intervene.swaps import Rate
from tracer.model.replacement import ReplacementModel

DALLAS = "the capital of the state containing Dallas is"
OAKLAND = "the capital of the state containing Oakland is"


@pytest.fixture(scope="module")
def dallas(demo_model: ReplacementModel) -> Graph:
    return attribute(DALLAS, demo_model)


@pytest.fixture(scope="module")
def oakland(demo_model: ReplacementModel) -> Graph:
    return attribute(OAKLAND, demo_model)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=200, deadline=None)
def test_the_interval_of_a_rate_is_wilsons(counts: tuple[int, int]) -> None:
    n_hits, n_trials = counts
    expected = binomtest(n_hits, n_trials).proportion_ci(confidence_level=0.95, method="wilson")
    assert Rate(n_hits=n_hits, n_trials=n_trials).interval() == pytest.approx((expected.low, expected.high), abs=2e-5)


def test_a_rate_without_trials_is_no_number_and_says_nothing() -> None:
    rate = Rate(n_hits=0, n_trials=0)
    assert math.isnan(rate.share)
    assert rate.interval() == (0.0, 1.0)
    assert str(Rate(n_hits=180, n_trials=200)) == "0.900 [0.851, 0.934] (180 of 200)"


@pytest.mark.parametrize("layer", [None, 0, 2])
def test_the_most_influential_features_are_the_largest_influences_in_order(dallas: Graph, layer: int | None) -> None:
    found = swaps.most_influential(dallas, 5, layer=layer)
    layers = dallas.layout.features[:, 0].tolist()
    values = dallas.influence.tolist()
    eligible = [node for node in range(dallas.layout.n_features) if layer is None or layers[node] == layer]
    assert len(eligible) > 5
    assert set(found) <= set(eligible)
    assert [values[node] for node in found] == sorted((values[node] for node in eligible), reverse=True)[:5]


def test_random_features_are_distinct_others_and_near_in_activation(dallas: Graph) -> None:
    like = swaps.most_influential(dallas, 10)
    values = dallas.activations.tolist()
    others = [node for node in range(dallas.layout.n_features) if node not in like]
    for seed in range(20):
        chosen = swaps.matched_random(dallas, like, 10, Random(seed))
        assert len(set(chosen)) == 10
        assert not set(chosen) & set(like)
        for place, (node, reference) in enumerate(zip(chosen, like, strict=True)):
            unused = [other for other in others if other not in chosen[:place]]
            distances = sorted(abs(values[other] - values[reference]) for other in unused)
            assert abs(values[node] - values[reference]) <= distances[4]


def test_random_features_follow_the_seed_and_end_where_there_are_no_more(dallas: Graph) -> None:
    like = swaps.most_influential(dallas, 10)
    draws = [swaps.matched_random(dallas, like, 10, Random(seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    everything = swaps.matched_random(dallas, like, 10**6, Random(0))
    assert sorted([*everything, *like]) == list(range(dallas.layout.n_features))
    assert swaps.matched_random(dallas, [], 5, Random(0)) == []


def test_swap_edits_take_out_the_bases_features_and_put_in_the_donors(dallas: Graph, oakland: Graph) -> None:
    base, donor = swaps.most_influential(dallas, 10), swaps.most_influential(oakland, 10)
    edits = {
        (edit.layer, edit.pos, edit.feature): edit.value for edit in swaps.swap_edits(dallas, base, oakland, donor)
    }
    put_in = {tuple(oakland.layout.features[node].tolist()): float(oakland.activations[node]) for node in donor}
    taken_out = {tuple(dallas.layout.features[node].tolist()) for node in base}
    assert set(edits) == taken_out | set(put_in)
    assert all(edits[place] == value for place, value in put_in.items())
    assert {edits[place] for place in taken_out - set(put_in)} == {0.0}


def test_where_both_name_a_feature_the_donors_value_wins(dallas: Graph) -> None:
    nodes = swaps.most_influential(dallas, 3)
    edits = swaps.swap_edits(dallas, nodes, dallas, nodes)
    assert [edit.value for edit in edits] == [float(dallas.activations[node]) for node in nodes]


def test_swapping_a_prompt_with_itself_keeps_its_answer_and_logits(demo_model: ReplacementModel, dallas: Graph) -> None:
    nodes = swaps.most_influential(dallas, 10)
    swapped = intervene(dallas.token_ids, demo_model, swaps.swap_edits(dallas, nodes, dallas, nodes)).logits
    plain = intervene(dallas.token_ids, demo_model, []).logits
    assert swapped[-1].tolist() == pytest.approx(plain[-1].tolist(), abs=1e-4)


def test_swapping_every_feature_at_all_positions_gives_the_donors_answer(
    demo_model: ReplacementModel, dallas: Graph, oakland: Graph
) -> None:
    ids = demo_model.tokenizer.get_vocab()
    everything = list(range(dallas.layout.n_features)), list(range(oakland.layout.n_features))
    unedited = demo_model.forward(dallas.token_ids)
    assert swaps.answer_after(demo_model, unedited, []) == ids["Austin"]
    edits = swaps.swap_edits(dallas, everything[0], oakland, everything[1])
    assert swaps.answer_after(demo_model, unedited, edits) == ids["Sacramento"]


def test_ablation_sets_the_nodes_to_zero_and_nothing_else(demo_model: ReplacementModel, dallas: Graph) -> None:
    nodes = swaps.most_influential(dallas, 4)
    edits = swaps.ablation_edits(dallas, nodes)
    assert [(edit.layer, edit.pos, edit.feature) for edit in edits] == [
        tuple(dallas.layout.features[node].tolist()) for node in nodes
    ]
    assert {edit.value for edit in edits} == {0.0}
    layer, pos, feature = dallas.layout.features[nodes[0]].tolist()
    before, after = (intervene(dallas.token_ids, demo_model, found).activations for found in ([], edits))
    assert float(before[layer][pos, feature]) > 0.0
    assert float(after[layer][pos, feature]) == 0.0
