"""Prompts side by side give the rows, and what follows from them, that each gives alone."""

from dataclasses import fields, replace

import pytest
import torch

from tests.attribution.matrix import POSSIBLE_CELLS, Cell, covering_cells, model_of
from tests.attribution.test_passes import EQUAL, MIXED, assert_same, together
from tracer.attribution import graphs as graphs_module
from tracer.attribution import together as together_module
from tracer.attribution.encoded import encode
from tracer.attribution.graphs import graph_of, graphs_of
from tracer.attribution.prepared import Prepared, prepare, prepare_forward
from tracer.attribution.target_kinds import Direction, FeatureTarget, LogitFunction
from tracer.attribution.together import room_for, side_by_side
from tracer.graph.graph import Graph
from tracer.graph.pruning import largest, rank
from tracer.model.replacement import ReplacementModel

PROMPTS = ("w3 w14 w15 w9 w26", "w26 w5 w8 w9", "w8 w9 w7 w9 w3", "w3 w2 w7 w30 w12", "w1 w14 w15 w9")
"""Of two lengths, alike enough to lie side by side."""
CELLS = covering_cells(POSSIBLE_CELLS)


def prepared_prompts(model: ReplacementModel, prompts: tuple[str, ...] = PROMPTS) -> list[Prepared]:
    forwards = model.forward_batch([model.tokenize(prompt) for prompt in prompts])
    return [
        prepare_forward(model, forward, encoded=encoded)
        for forward, encoded in zip(forwards, encode(model, forwards), strict=True)
    ]


def assert_equal(found: Graph, expected: Graph) -> None:
    assert torch.equal(found.has_row, expected.has_row)
    adjacency, expected_adjacency = found.adjacency(), expected.adjacency()
    largest_of_row = expected_adjacency.abs().amax(1, keepdim=True).clamp_min(1e-6)
    assert float(((adjacency - expected_adjacency) / largest_of_row).abs().max()) < 1e-5
    torch.testing.assert_close(found.row_bias, expected.row_bias, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.error_share, expected.error_share, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.influence, expected.influence, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("blocks_of_a_step", [0, 10**6], ids=["by layer", "one sweep"])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_row_side_by_side_is_that_of_the_prompt_alone(
    cell: Cell, blocks_of_a_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(cell)
    prompts = prepared_prompts(model)
    monkeypatch.setattr(together_module, "BLOCKS_OF_A_STEP", blocks_of_a_step)
    monkeypatch.setattr(together_module, "MAX_RATIO", 100.0)
    assert len(list(side_by_side(prompts, range(len(prompts)), 2**30))) == 1
    for prepared, found in zip(prompts, graphs_of(model, prompts), strict=True):
        # With a cap on feature rows, one prompt at a time is computed layer by layer.
        assert_equal(found, graph_of(model, prepared, max_feature_nodes=prepared.layout.n_features))


@pytest.mark.parametrize("prompts", [EQUAL, MIXED], ids=["equal", "mixed"])
def test_a_graph_does_not_depend_on_the_prompts_beside_it(
    demo_model: ReplacementModel, prompts: tuple[str, ...]
) -> None:
    for prompt, found in zip(prompts, together(demo_model, prompts, coverage=0.95), strict=True):
        assert_same(found, graph_of(demo_model, prepare(demo_model, demo_model.tokenize(prompt)), coverage=0.95))


def test_nor_on_how_many_rows_are_computed_at_once(demo_model: ReplacementModel) -> None:
    prompts = prepared_prompts(demo_model, EQUAL)
    at_once = graphs_of(demo_model, prompts)
    for few, many in zip(graphs_of(demo_model, prompts, batch_size=17), at_once, strict=True):
        assert_equal(few, many)


def test_edges_between_kept_nodes_are_those_of_all_edges(demo_model: ReplacementModel) -> None:
    prompts = prepared_prompts(demo_model, EQUAL)
    kept = graphs_of(demo_model, prompts, node_threshold=0.8)
    for found, whole in zip(kept, graphs_of(demo_model, prompts), strict=True):
        assert len(found.edge_weight) < len(whole.edge_weight)
        assert_same(replace(found), whole)


def test_a_prompt_keeps_no_memory_of_those_beside_it(demo_model: ReplacementModel) -> None:
    for graph in graphs_of(demo_model, prepared_prompts(demo_model, EQUAL)):
        tensors = [getattr(graph, field.name) for field in fields(graph)] + [graph.layout.features]
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_targets_of_any_kind_lie_side_by_side(random_model: ReplacementModel) -> None:
    given = (
        "w7", Direction(torch.ones(random_model.weights.W_U.shape[0]), layer=1, pos=2), FeatureTarget(1, 3, 0),
        LogitFunction(lambda logits: logits[1:, 3].sum(), "sum"),
    )  # fmt: skip
    prompts = [
        prepare_forward(random_model, forward, given_targets=given[: 2 + idx])
        for idx, forward in enumerate(random_model.forward_batch([random_model.tokenize(text) for text in PROMPTS[:3]]))
    ]
    for prepared, found in zip(prompts, graphs_of(random_model, prompts), strict=True):
        assert_equal(found, graph_of(random_model, prepared, max_feature_nodes=prepared.layout.n_features))


def test_prompts_too_large_for_the_budget_are_taken_one_at_a_time(
    demo_model: ReplacementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = prepared_prompts(demo_model, EQUAL)
    monkeypatch.setattr(graphs_module, "account_together", None)
    small = graphs_of(
        demo_model, prompts, memory_budget_bytes=4 * min(map(room_for, prompts)) - 4, node_threshold=0.8, coverage=0.5
    )
    assert all(bool(graph.has_row.all()) for graph in small)


def test_prompts_of_like_size_lie_side_by_side_as_far_as_the_budget_goes(demo_model: ReplacementModel) -> None:
    prompts = prepared_prompts(demo_model, (*EQUAL, *MIXED))
    groups = list(side_by_side(prompts, range(len(prompts)), 3 * max(map(room_for, prompts))))
    assert sorted(idx for group in groups for idx in group) == list(range(len(prompts)))
    assert all(
        len(group) * max(room_for(prompts[idx]) for idx in group) <= 3 * max(map(room_for, prompts)) for group in groups
    )
    lengths = [{prompts[idx].layout.n_pos for idx in group} for group in groups]
    assert all(max(found) <= together_module.MAX_RATIO * min(found) for found in lengths)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.8, 1.0])
def test_the_cut_of_graphs_side_by_side_is_that_of_each(threshold: float) -> None:
    values = torch.rand(5, 30, generator=torch.Generator().manual_seed(0)).round(decimals=1)
    values[:, 20:] = 0
    together_kept = largest(torch.nn.functional.pad(values, (0, 4)), threshold)[:, :30]
    for of_graph, kept in zip(values, together_kept, strict=True):
        assert torch.equal(rank(of_graph, threshold).kept, kept)
