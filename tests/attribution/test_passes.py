"""Several prompts in one pass, memory budgets and arithmetic: what may change, and what may not."""

from dataclasses import replace

import pytest
import torch

from tests.checkpoints import loaded
from tracer.attribution.graphs import graph_of, graphs_of
from tracer.attribution.precision import product, rounded_to_tf32
from tracer.attribution.prepared import prepare, prepare_forward
from tracer.errors import ConfigError
from tracer.graph.graph import Graph
from tracer.model.replacement import ReplacementModel

MIXED = (
    "the capital of the state containing Dallas is",
    "the keys near the cabinet",
    "when Mary and John went to the store John gave a book to",
    "the capital of the state containing Chicago is",
)
EQUAL = tuple(f"the capital of the state containing {city} is" for city in ("Dallas", "Chicago", "Miami", "Denver")) * 2


def together(model: ReplacementModel, prompts: tuple[str, ...], **settings: object) -> list[Graph]:
    forwards = model.forward_batch([model.tokenize(prompt) for prompt in prompts])
    return graphs_of(model, [prepare_forward(model, forward) for forward in forwards], **settings)


def assert_same(found: Graph, alone: Graph) -> None:
    found, alone = found.prune(), alone.prune()
    assert torch.equal(found.layout.features, alone.layout.features)
    assert torch.equal(found.has_row, alone.has_row)
    assert torch.equal(found.node_mask, alone.node_mask)
    assert torch.equal(found.edge_source, alone.edge_source)
    torch.testing.assert_close(found.edge_weight, alone.edge_weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.influence, alone.influence, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prompts", [EQUAL, MIXED], ids=["equal", "mixed"])
@pytest.mark.parametrize("coverage", [1.0, 0.95])
def test_a_graph_does_not_depend_on_the_prompts_beside_it(
    demo_model: ReplacementModel, prompts: tuple[str, ...], coverage: float
) -> None:
    graphs = together(demo_model, prompts, coverage=coverage, every_row_flops=0.0)
    for prompt, found in zip(prompts, graphs, strict=True):
        alone = graph_of(
            demo_model, prepare(demo_model, demo_model.tokenize(prompt)), coverage=coverage, every_row_flops=0.0
        )
        assert_same(found, alone)


@pytest.mark.parametrize(
    "settings", [{}, {"every_row_flops": 0.0}, {"every_row_flops": 0.0, "coverage": 0.95}],
    ids=["one sweep", "meeting", "chosen"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["gemma2", "gpt_oss", "qwen3_moe", "neox"])
def test_nor_does_it_on_other_architectures(kind: str, settings: dict[str, float]) -> None:
    _, model = loaded(kind)
    prompts = ("w3 w14 w15 w9", "w26 w5", "w8 w9 w7 w9 w3 w2 w3")
    for prompt, found in zip(prompts, together(model, prompts, **settings), strict=True):
        assert_same(found, graph_of(model, prepare(model, model.tokenize(prompt)), **settings))


@pytest.mark.parametrize("n_rows", [1, 7])
def test_nor_on_how_many_rows_are_computed_at_once(demo_model: ReplacementModel, n_rows: int) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(MIXED[2]))
    assert_same(
        graph_of(demo_model, prepared, batch_size=n_rows, coverage=0.95, every_row_flops=0.0),
        graph_of(demo_model, prepared, coverage=0.95, every_row_flops=0.0),
    )


def test_rows_beyond_the_memory_budget_are_computed_again(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(MIXED[2]))
    whole = graph_of(demo_model, prepared).prune()
    small = graph_of(demo_model, prepared, memory_budget_bytes=2**14, node_threshold=0.8).prune()
    assert torch.equal(whole.node_mask, small.node_mask)
    assert torch.equal(whole.edge_source, small.edge_source)
    torch.testing.assert_close(whole.edge_weight, small.edge_weight, atol=1e-5, rtol=1e-4)
    assert whole.scores().replacement == pytest.approx(small.scores().replacement, abs=1e-5)
    assert whole.scores().completeness == pytest.approx(small.scores().completeness, abs=1e-5)
    with pytest.raises(ConfigError, match="node_threshold"):
        graph_of(demo_model, prepared, memory_budget_bytes=2**14)


def test_edges_between_kept_nodes_are_all_that_pruning_needs(demo_model: ReplacementModel) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(MIXED[0]))
    whole, kept = graph_of(demo_model, prepared), graph_of(demo_model, prepared, node_threshold=0.8)
    assert len(kept.edge_weight) < len(whole.edge_weight)
    assert whole.scores() == kept.scores()
    assert_same(replace(kept, node_mask=kept.node_mask), whole)


def test_tf32_rounds_to_ten_bits_of_mantissa() -> None:
    values = torch.tensor([1.0, 1.0 + 2**-10, 1.0 + 2**-11, 1.0 + 2**-12, -3.1415926, 0.0])
    rounded = rounded_to_tf32(values)
    assert rounded.tolist()[:4] == [1.0, 1.0 + 2**-10, 1.0 + 2**-10, 1.0]
    assert bool(((rounded - values).abs() <= values.abs() * 2**-11).all())


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-3), ("bfloat16", 2e-2)])
def test_products_are_as_exact_as_their_arithmetic(precision: str, tolerance: float) -> None:
    left, right = torch.randn(40, 64), torch.randn(64, 30)
    difference = (product(left, right, precision) - left @ right).norm() / (left @ right).norm()
    assert 0 < float(difference) < tolerance


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_less_exact_products_change_a_graph_little(demo_model: ReplacementModel, precision: str) -> None:
    prepared = prepare(demo_model, demo_model.tokenize(MIXED[0]))
    exact, rough = graph_of(demo_model, prepared), graph_of(demo_model, prepared, precision=precision)
    assert float((exact.influence - rough.influence).abs().max()) < 0.02
    assert not torch.equal(exact.edge_weight, rough.edge_weight)
