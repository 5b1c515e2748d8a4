"""Head loadings against the autograd oracle: their sums, single heads, every kind of target; and how they are asked."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attribution.matrix import PROMPT, Cell, model_of, row_nodes
from tests.checkpoints import loaded
from tracer.attribution.graphs import graph_of
from tracer.attribution.head_loadings import HeadLoadings, head_loadings
from tracer.attribution.oracle import Oracle
from tracer.attribution.prepared import Prepared, prepare
from tracer.attribution.target_kinds import Direction, FeatureTarget, LogitFunction, LogitTarget
from tracer.errors import DataError, ModelError
from tracer.model.replacement import Hook, ReplacementModel

CELLS = (
    Cell("gpt2", "per-layer skip", "jumprelu", "mlp.hook_in -> mlp.hook_out"),
    Cell("llama", "cross-layer skip", "topk", "hook_resid_mid -> mlp.hook_out"),
    Cell("gemma3", "per-layer skip", "relu", "ln2.hook_normalized -> mlp.hook_out"),
    Cell("neox", "cross-layer skip", "jumprelu", "mlp.hook_in -> mlp.hook_out"),
    Cell("gpt_oss", "per-layer", "relu", "mlp.hook_in -> hook_mlp_out"),
)
ON_TWO_ARCHITECTURES = pytest.mark.parametrize("cell", CELLS[:2], ids=str)


def all_edges(prepared: Prepared, nodes: torch.Tensor) -> torch.Tensor:
    """Every pair of one of the nodes and a source."""
    return torch.cartesian_prod(nodes, torch.arange(prepared.layout.first_target))


def assert_sums_equal_the_oracle(model: ReplacementModel, prepared: Prepared, nodes: torch.Tensor) -> HeadLoadings:
    oracle = Oracle(model, prepared).rows(nodes).weights[:, : prepared.layout.first_target]
    loadings = head_loadings(model, prepared, all_edges(prepared, nodes))
    difference = (loadings.sums().view_as(oracle) - oracle).abs().amax(1)
    assert bool((difference <= 1e-4 * oracle.abs().amax(1)).all())
    return loadings


def without_skips(model: ReplacementModel, first_layer: int) -> ReplacementModel:
    """The model with the skip connections of a layer and all later ones taken out."""
    layers = [
        replace(layer, W_skip=None) if place >= first_layer else layer
        for place, layer in enumerate(model.transcoders.layers)
    ]
    transcoders = replace(model.transcoders, layers=tuple(layers))
    return ReplacementModel(model.bridge, model.tokenizer, transcoders, model.facts)


def cut_loadings(model: ReplacementModel, prepared: Prepared, node: int, layer: int, head: int) -> torch.Tensor:
    """What a head is the last to carry to a node, by autograd.

    The node's gradient at the head's outputs with all later attention and skip connections cut off, times those
    outputs as they depend on the sources.
    """
    outputs, kept = f"blocks.{layer}.attn.o.hook_in", dict[str, torch.Tensor]()

    def cut(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return value.detach()

    def leaf(value: torch.Tensor, hook: Any) -> torch.Tensor:
        kept["leaf"] = value.detach().requires_grad_(True)
        return kept["leaf"]

    def keep(value: torch.Tensor, hook: Any) -> None:
        kept["attached"] = value

    later: list[Hook] = [(f"blocks.{above}.attn.hook_out", cut) for above in range(layer + 1, model.n_layers)]
    with model.hooks([*later, (outputs, leaf)]):
        value = Oracle(without_skips(model, layer), prepared).value(node)
    (gradient,) = torch.autograd.grad(value, kept["leaf"], allow_unused=True, materialize_grads=True)
    with model.hooks([(outputs, keep)]):
        oracle = Oracle(model, prepared)
    parts = (gradient * kept["attached"]).reshape(prepared.forward.n_pos, model.facts.n_heads, -1)
    return oracle.edges(parts[:, head].sum())[: prepared.layout.first_target]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_parts_add_up_to_the_oracles_edges(cell: Cell) -> None:
    model = model_of(cell)
    prepared = prepare(model, model.tokenize(PROMPT))
    loadings = assert_sums_equal_the_oracle(model, prepared, row_nodes(prepared)[::5])
    assert float(loadings.heads.abs().max()) > 0.01
    assert bool(loadings.skips.any()) == cell.kind.endswith("skip")


@ON_TWO_ARCHITECTURES
def test_a_heads_part_is_what_autograd_finds_through_that_head(cell: Cell) -> None:
    model = model_of(cell)
    prepared = prepare(model, model.tokenize(PROMPT))
    nodes = row_nodes(prepared)[[-1, int(prepared.layout.n_features * 0.9)]]
    loadings = head_loadings(model, prepared, all_edges(prepared, nodes))
    heads = loadings.heads.view(len(nodes), prepared.layout.first_target, model.n_layers, -1)
    for place, node in enumerate(nodes.tolist()):
        for layer, head in ((0, 1), (1, 2), (model.n_layers - 1, 3)):
            expected = cut_loadings(model, prepared, node, layer, head)
            assert bool(expected.any()) or layer > 0
            torch.testing.assert_close(heads[place, :, layer, head], expected, atol=1e-5, rtol=1e-4)


@ON_TWO_ARCHITECTURES
def test_every_kind_of_target_and_several_positions_at_once(cell: Cell) -> None:
    model = model_of(cell)
    vector = torch.linspace(-1, 1, model.facts.d_model)
    targets = [
        LogitTarget(3, pos=2, weight=1.0),
        LogitFunction(lambda logits: logits[-1, 4] * logits[2, 5] - logits[0, 6], name="product"),
        *(Direction(vector, layer=1, place=place, pos=-2) for place in ("resid_pre", "resid_mid", "resid_post")),
        Direction(vector, layer=0, place="resid_pre", pos=3),
        FeatureTarget(layer=2, pos=-1, feature=0),
    ]
    prepared = prepare(model, model.tokenize(PROMPT), given_targets=targets)
    first = prepared.layout.first_target
    loadings = assert_sums_equal_the_oracle(model, prepared, torch.arange(first, first + len(targets)))
    at_the_start = loadings.edges[:, 0] == first + 5
    assert not loadings.heads[at_the_start].any()


@pytest.fixture(scope="module")
def edges_of_demo(demo_model: ReplacementModel) -> tuple[ReplacementModel, Prepared, HeadLoadings]:
    prepared = prepare(demo_model, demo_model.tokenize("the capital of the state containing Dallas is"))
    graph = graph_of(demo_model, prepared).prune()
    scores = graph.edge_weight.abs()
    return demo_model, prepared, head_loadings(demo_model, prepared, graph, edge_weights=scores)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_parts_of_an_edge_do_not_depend_on_the_other_edges_nor_on_memory(
    edges_of_demo: tuple[ReplacementModel, Prepared, HeadLoadings], data: st.DataObject
) -> None:
    model, prepared, whole = edges_of_demo
    places = torch.tensor(data.draw(st.lists(st.integers(0, len(whole.edges) - 1), max_size=6)), dtype=torch.long)
    budget = data.draw(st.sampled_from([1, 2**20, 2**30]))
    found = head_loadings(model, prepared, whole.edges[places], memory_budget_bytes=budget)
    torch.testing.assert_close(found.heads, whole.heads[places], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.residual, whole.residual[places], atol=1e-5, rtol=1e-4)


def test_the_frame_names_the_parts(edges_of_demo: tuple[ReplacementModel, Prepared, HeadLoadings]) -> None:
    _, _, loadings = edges_of_demo
    frame = loadings.frame()
    assert set(frame["kind"]) == {"residual", "head"}
    for row in frame.filter(frame["weight"].abs() > 1e-3).head(50).to_dicts():
        place = loadings.edges.tolist().index([row["target"], row["source"]])
        is_head = row["kind"] == "head"
        part = loadings.heads[place, row["layer"], row["head"]] if is_head else loadings.residual[place]
        assert float(part) == pytest.approx(row["weight"])
        assert row["share"] == pytest.approx(row["weight"] / float(loadings.sums()[place]), rel=1e-4)
    assert frame.filter(frame["kind"] == "residual")["head"].is_null().all()
    sums = frame.group_by("target", "source").agg(pl.col("share").sum())
    assert sums["share"].to_list() == pytest.approx([1.0] * len(loadings.edges), abs=1e-3)


def test_shares_of_heads_and_residual_stream_add_up_to_one(
    edges_of_demo: tuple[ReplacementModel, Prepared, HeadLoadings],
) -> None:
    _, _, loadings = edges_of_demo
    weights = loadings.sums().abs()
    of_heads = loadings.shares(weights)
    assert of_heads.shape == loadings.heads.shape[1:]
    residual = float((loadings.residual / loadings.sums() * weights).sum() / weights.sum())
    assert float(of_heads.sum()) + residual == pytest.approx(1.0, abs=1e-4)


def test_the_busiest_entries_carry_most(edges_of_demo: tuple[ReplacementModel, Prepared, HeadLoadings]) -> None:
    _, prepared, loadings = edges_of_demo
    assert loadings.carried is not None
    places = loadings.busiest(5)
    values = [float(loadings.carried[place]) for place in places]
    assert values == sorted(values, reverse=True)
    assert values[0] == float(loadings.carried.max())
    assert all(key_pos <= query_pos < prepared.forward.n_pos for _, _, query_pos, key_pos in places)


def test_what_no_edge_can_join_is_refused(edges_of_demo: tuple[ReplacementModel, Prepared, HeadLoadings]) -> None:
    model, prepared, _ = edges_of_demo
    layout = prepared.layout
    for pair in ((layout.first_token, 0), (0, layout.first_target), (0, -1)):
        with pytest.raises(DataError, match="pairs of target and source"):
            head_loadings(model, prepared, torch.tensor([pair]))


def test_an_architecture_outside_the_table_is_refused() -> None:
    _, model = loaded("mistral")
    prepared = prepare(model, model.tokenize(PROMPT))
    with pytest.raises(ModelError, match="outside the table"):
        head_loadings(model, prepared, torch.tensor([[prepared.layout.first_target, 0]]))
