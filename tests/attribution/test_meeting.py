"""Meeting in the middle gives the rows that pulling all the way down gives, wherever the middle is."""

import pytest
import torch

from tests.attribution.matrix import PROMPT, Cell, largest_row_difference, model_of, row_nodes
from tracer.attribution.explicit import ExplicitEngine
from tracer.attribution.graphs import graph_of
from tracer.attribution.meeting import best_middle
from tracer.attribution.prepared import Rows, prepare
from tracer.attribution.sources import Sources
from tracer.model.replacement import ReplacementModel

CELLS = [
    Cell("gpt2", "per-layer skip", "relu", "mlp.hook_in -> mlp.hook_out"),
    Cell("gemma2", "cross-layer skip", "jumprelu", "hook_resid_mid -> mlp.hook_out"),
    Cell("neox", "cross-layer skip", "topk", "mlp.hook_in -> hook_mlp_out"),
    Cell("gpt_oss", "per-layer", "relu", "ln2.hook_normalized -> hook_mlp_out"),
    Cell("llama", "cross-layer", "batchtopk", "mlp.hook_in -> mlp.hook_out"),
]


@pytest.mark.parametrize("n_lower", [1, 2])
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_rows_are_those_of_the_plain_engine(cell: Cell, n_lower: int) -> None:
    model = model_of(cell, n_features=16)
    prepared = prepare(model, model.tokenize(PROMPT))
    engine = ExplicitEngine(model, prepared, memory_budget_bytes=2**26)
    nodes = row_nodes(prepared)
    expected = engine.rows(nodes)
    engine.n_lower = n_lower
    found = Rows(weights=torch.zeros_like(expected.weights), bias=torch.zeros_like(expected.bias))
    layers = prepared.layout.layers()[nodes]
    for layer in layers.unique().flip(0):
        for _, of_layer, weights, bias in engine.node_rows([(0, nodes[layers == layer])]):
            places = torch.searchsorted(nodes, of_layer)
            found.weights[places], found.bias[places] = weights.T, bias
    assert largest_row_difference(found, expected) < 1e-5
    torch.testing.assert_close(found.bias, expected.bias, atol=1e-4, rtol=1e-4)


def test_the_middle_is_used_where_every_row_of_a_deep_model_is_wanted(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize("the capital of the state containing Dallas is"))
    sources = Sources(demo_model, prepared)
    assert 0 < best_middle([sources], 1.0, 2**30) < demo_model.n_layers
    assert best_middle([sources], 1.0, 0) == 0
    assert ExplicitEngine(demo_model, prepared, memory_budget_bytes=2**30).n_lower == 0


def test_every_row_by_meeting_gives_the_pruned_graph_of_pulling(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize("when Mary and John went to the store John gave a book to"))
    met = graph_of(demo_model, prepared, every_row_flops=0.0).prune()
    pulled = graph_of(demo_model, prepared, max_feature_nodes=prepared.layout.n_features).prune()
    assert torch.equal(met.node_mask, pulled.node_mask)
    assert torch.equal(met.edge_source, pulled.edge_source)
    torch.testing.assert_close(met.influence, pulled.influence, atol=1e-5, rtol=1e-4)


def test_meeting_chooses_the_rows_of_a_coverage_that_pulling_chooses(
    demo_model: ReplacementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(demo_model, demo_model.tokenize("when Mary and John went to the store John gave a book to"))
    assert best_middle([Sources(demo_model, prepared)], 0.99, 2**30) > 0
    met = graph_of(demo_model, prepared, coverage=0.99, every_row_flops=0.0)
    monkeypatch.setattr("tracer.attribution.explicit.best_middle", lambda *_: 0)
    pulled = graph_of(demo_model, prepared, coverage=0.99, every_row_flops=0.0)
    assert torch.equal(met.has_row, pulled.has_row)
    assert not met.has_row.all()
    torch.testing.assert_close(met.influence, pulled.influence, atol=1e-5, rtol=1e-4)
    assert torch.equal(met.prune().node_mask, pulled.prune().node_mask)
