"""The explicit engine against the autograd oracle, row identities, coverage and its bound."""

import pytest
import torch

from tests.attribution.matrix import largest_row_difference, node_values, row_nodes
from tracer.attribution.attribute import attribute, graph_of
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import prepare
from tracer.errors import ConfigError, DataError
from tracer.model.replacement import ReplacementModel

DEMO_PROMPTS = (
    "the capital of the state containing Dallas is",
    "when Mary and John went to the store John gave a book to",
    "the keys near the cabinet",
)
RANDOM_PROMPT = "w3 w14 w15 w9 w26 w5 w35 w8"


def assert_engine_equals_oracle(model: ReplacementModel, prompt: str) -> None:
    prepared = prepare(model, model.tokenize(prompt))
    nodes = row_nodes(prepared)
    assert prepared.layout.n_features > 20, "a graph without features proves nothing"
    explicit = ExplicitEngine(model, prepared, memory_budget_bytes=2**24).rows(nodes)
    oracle = Oracle(model, prepared).rows(nodes)
    assert largest_row_difference(explicit, oracle) <= 1e-4
    torch.testing.assert_close(explicit.bias, oracle.bias, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", DEMO_PROMPTS)
def test_engine_equals_oracle_on_the_demo_model(demo_model: ReplacementModel, prompt: str) -> None:
    assert_engine_equals_oracle(demo_model, prompt)


def test_engine_equals_oracle_on_the_demo_model_with_cross_layer_transcoders(
    demo_cross_layer: ReplacementModel,
) -> None:
    assert_engine_equals_oracle(demo_cross_layer, DEMO_PROMPTS[0])


def test_engine_equals_oracle_on_random_checkpoints(random_model: ReplacementModel) -> None:
    assert_engine_equals_oracle(random_model, RANDOM_PROMPT)


@pytest.mark.parametrize("read_point", ["normalised", "resid_mid"])
def test_engine_equals_oracle_at_other_read_points(random_model: ReplacementModel, read_point: str) -> None:
    from dataclasses import replace

    other = replace(random_model.transcoders, read_point=read_point)
    model = ReplacementModel(random_model.bridge, random_model.tokenizer, other, random_model.facts)
    assert_engine_equals_oracle(model, RANDOM_PROMPT)


def test_row_sum_plus_bias_is_the_nodes_value(random_model: ReplacementModel) -> None:
    prepared = prepare(random_model, random_model.tokenize(RANDOM_PROMPT))
    rows = ExplicitEngine(random_model, prepared, memory_budget_bytes=2**24).rows(row_nodes(prepared))
    torch.testing.assert_close(
        rows.weights.sum(1) + rows.bias, node_values(random_model, prepared), atol=1e-4, rtol=1e-4
    )


def test_row_sum_plus_bias_is_the_nodes_value_on_the_demo_model(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(DEMO_PROMPTS[0]))
    rows = ExplicitEngine(demo_model, prepared, memory_budget_bytes=2**24).rows(row_nodes(prepared))
    torch.testing.assert_close(rows.weights.sum(1) + rows.bias, node_values(demo_model, prepared), atol=2e-4, rtol=1e-4)


def test_rows_do_not_depend_on_how_they_are_chunked(demo_model: ReplacementModel) -> None:
    whole = attribute(DEMO_PROMPTS[1], demo_model)
    chunked = attribute(DEMO_PROMPTS[1], demo_model, batch_size=3)
    torch.testing.assert_close(whole.adjacency(), chunked.adjacency(), atol=1e-5, rtol=1e-4)
    assert torch.equal(whole.prune().node_mask, chunked.prune().node_mask)


def test_both_engines_give_the_same_pruned_graph(demo_model: ReplacementModel) -> None:
    explicit = attribute(DEMO_PROMPTS[0], demo_model).prune()
    oracle = attribute(DEMO_PROMPTS[0], demo_model, engine="oracle").prune()
    assert torch.equal(explicit.node_mask, oracle.node_mask)
    assert torch.equal(explicit.edge_target, oracle.edge_target)


def test_edges_only_go_from_lower_layers_and_earlier_positions(demo_model: ReplacementModel) -> None:
    graph = attribute(DEMO_PROMPTS[1], demo_model)
    layers, pos = graph.layout.layers(), graph.layout.positions(torch.tensor([target.pos for target in graph.targets]))
    assert bool((layers[graph.edge_source] < layers[graph.edge_target]).all())
    assert bool((pos[graph.edge_source] <= pos[graph.edge_target]).all())


def test_the_special_tokens_position_has_no_feature_and_no_error(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(DEMO_PROMPTS[0]))
    assert int(prepared.layout.features[:, 1].min()) >= 1
    assert not prepared.errors[:, 0].any()


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95, 0.99])
def test_uncovered_influence_bounds_every_influence(demo_model: ReplacementModel, coverage: float) -> None:
    for prompt in DEMO_PROMPTS:
        prepared = prepare(demo_model, demo_model.tokenize(prompt))
        exact, partial = (
            graph_of(demo_model, prepared),
            graph_of(demo_model, prepared, coverage=coverage, every_row_flops=0.0),
        )
        total = float(exact.target_weights.sum())
        missing = (exact.influence - partial.influence) / total
        assert partial.uncovered_influence <= 1 - coverage
        assert float(missing.min()) >= -1e-5
        assert float(missing.max()) <= partial.uncovered_influence + 1e-5
        assert int(partial.has_row.sum()) <= int(exact.has_row.sum())


def test_less_than_full_coverage_computes_fewer_rows(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(DEMO_PROMPTS[0]))
    graph = graph_of(demo_model, prepared, coverage=0.9, every_row_flops=0.0)
    assert 0 < int(graph.has_row.sum()) < graph.layout.n_features


def test_a_prompt_that_is_little_work_gets_every_row_whatever_the_coverage(demo_model: ReplacementModel) -> None:
    graph = attribute(DEMO_PROMPTS[0], demo_model, coverage=0.9)
    assert bool(graph.has_row.all())
    chosen = graph_of(demo_model, prepare(demo_model, demo_model.tokenize(DEMO_PROMPTS[0])), every_row_flops=0.0)
    assert torch.equal(graph.prune().node_mask, chosen.prune().node_mask)
    torch.testing.assert_close(graph.edge_weight, chosen.edge_weight, atol=1e-5, rtol=1e-4)


def test_exact_mode_computes_every_row(demo_model: ReplacementModel) -> None:
    graph = attribute(DEMO_PROMPTS[0], demo_model)
    assert bool(graph.has_row.all())
    assert graph.uncovered_influence == 0.0


def test_max_feature_nodes_is_a_hard_cap(demo_model: ReplacementModel) -> None:
    graph = attribute(DEMO_PROMPTS[0], demo_model, max_feature_nodes=7)
    assert int(graph.has_row.sum()) == 7
    assert graph.uncovered_influence > 0


def test_text_ids_and_tensor_give_the_same_graph(demo_model: ReplacementModel) -> None:
    ids = demo_model.tokenizer.encode(DEMO_PROMPTS[0], add_special_tokens=False)
    graphs = [attribute(prompt, demo_model) for prompt in (DEMO_PROMPTS[0], ids, torch.tensor(ids))]
    for graph in graphs[1:]:
        assert torch.equal(graph.edge_weight, graphs[0].edge_weight)
        assert graph.tokens == graphs[0].tokens


def test_special_token_id_zero_counts(random_checkpoint_model: ReplacementModel) -> None:
    model = random_checkpoint_model
    assert model.tokenizer.bos_token_id == 0
    assert model.tokenize("w3 w4").tolist() == [0, 4, 5]
    assert model.tokenize([0, 4, 5]).tolist() == [0, 4, 5]
    graph = attribute("w3 w4", model)
    assert graph.tokens[0] == "<bos>"
    assert int(graph.layout.features[:, 1].min()) >= 1


@pytest.fixture
def random_checkpoint_model(random_model: ReplacementModel) -> ReplacementModel:
    return random_model


def test_targets_reach_the_asked_mass_or_the_cap(demo_model: ReplacementModel) -> None:
    graph = attribute("Mary went to the", demo_model, max_n_logits=5, desired_logit_prob=0.99)
    weights = [target.weight for target in graph.targets]
    assert weights == sorted(weights, reverse=True)
    assert len(weights) == 5 or sum(weights) >= 0.99
    assert sum(weights[:-1]) < 0.99


def test_given_targets_are_attributed_in_the_order_given(demo_model: ReplacementModel) -> None:
    graph = attribute(DEMO_PROMPTS[0], demo_model, attribution_targets=["Boston", "Austin"])
    assert [target.token for target in graph.targets] == ["Boston", "Austin"]


def test_a_cap_ranks_features_anew_as_rows_are_computed(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(DEMO_PROMPTS[1]))
    exact = graph_of(demo_model, prepared)
    capped = graph_of(demo_model, prepared, max_feature_nodes=40)
    best = set(exact.influence[: exact.layout.n_features].topk(40).indices.tolist())
    assert len(best & set(capped.has_row.nonzero().flatten().tolist())) >= 34


def test_targets_and_prompts_as_tensors_are_taken(demo_model: ReplacementModel) -> None:
    ids = torch.tensor([demo_model.tokenizer.encode(DEMO_PROMPTS[0], add_special_tokens=False)])
    graph = attribute(ids, demo_model, attribution_targets=torch.tensor([40, 41, 40]))
    assert [target.token_id for target in graph.targets] == [40, 41]


def test_influence_of_frames_is_a_share_of_the_target_weights(demo_model: ReplacementModel) -> None:
    graph = attribute(DEMO_PROMPTS[0], demo_model, attribution_targets=["Mary"])
    assert graph.targets[0].weight < 0.01
    assert 0.1 < graph.nodes()["influence"].max() < 10


def test_bad_input_is_refused_with_a_clear_error(demo_model: ReplacementModel) -> None:
    with pytest.raises(DataError, match="one token of the vocabulary"):
        attribute(DEMO_PROMPTS[0], demo_model, attribution_targets=["no such word"])
    for setting in ({"coverage": 0.0}, {"node_threshold": 1.5}, {"memory_budget_bytes": 0}):
        with pytest.raises(ConfigError, match=next(iter(setting))):
            attribute(DEMO_PROMPTS[0], demo_model, **setting)
    with pytest.raises(DataError, match="unknown"):
        attribute("xyzzy plugh", demo_model)
    with pytest.raises(DataError, match="at most 64"):
        attribute("the " * 70, demo_model)
