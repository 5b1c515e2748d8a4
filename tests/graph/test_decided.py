"""The bound: what a graph with some rows says of the exact one is never wrong."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.graph.random_graphs import influence_of, random_graph, with_rows
from tracer.attribution.graphs import graph_of
from tracer.attribution.prepared import prepare
from tracer.errors import ConfigError
from tracer.graph.decided import ROUNDING, Decided, decide, excess
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind
from tracer.graph.pruning import rank
from tracer.model.replacement import ReplacementModel

DEMO_PROMPTS = ("the capital of the state containing Dallas is", "the keys near the cabinet")


SHAPES = st.fixed_dictionaries({
    "seed": st.integers(0, 2**31),
    "n_layers": st.integers(1, 6),
    "n_pos": st.integers(1, 5),
    "n_features": st.integers(1, 40),
    "spread": st.sampled_from([0.0, 1.0, 2.5]),
})
SHARES = st.floats(0, 1)


def exact_and_partial(shape: dict, share: float, ranked: bool) -> tuple[Graph, Graph]:
    """An exact graph, and what is known of it with the most influential rows, or with rows drawn at random."""
    exact = random_graph(**shape)
    n_features = exact.layout.n_features
    if ranked:
        order = exact.influence[:n_features].argsort(descending=True)
        has_row = torch.zeros(n_features, dtype=torch.bool)
        has_row[order[: round(share * n_features)]] = True
    else:
        has_row = torch.rand(n_features, generator=torch.Generator().manual_seed(shape["seed"] + 1)) < share
    return exact, with_rows(exact, has_row)


def assert_never_wrong(exact: Graph, decided: Decided, node_threshold: float) -> None:
    always = exact.layout.is_kind(NodeKind.token) | exact.layout.is_kind(NodeKind.logit)
    kept = rank(exact.influence, node_threshold).kept | always
    assert not (decided.certainly_kept & ~kept).any()
    assert not (decided.certainly_dropped & kept).any()


@given(SHAPES, SHARES, st.booleans())
@settings(max_examples=250)
def test_no_influence_exceeds_what_the_missing_rows_may_add(shape: dict, share: float, ranked: bool) -> None:
    exact, partial = exact_and_partial(shape, share, ranked)
    bounds = excess(partial)
    missing = (exact.influence - partial.influence).double()
    rounding = ROUNDING * float(exact.target_weights.sum())
    assert float(missing.min()) >= -rounding
    assert bool((missing <= bounds.of_node + rounding).all())
    for idx, room in enumerate(bounds.of_group.tolist()):
        assert float(missing[bounds.group == idx].sum()) <= room + rounding
    assert float(bounds.of_node.max()) <= partial.uncovered_influence * float(exact.target_weights.sum()) + rounding


@given(SHAPES, SHARES, st.booleans(), st.sampled_from([0.0, 0.5, 0.8, 0.95, 1.0]))
@settings(max_examples=400)
def test_no_verdict_is_wrong(shape: dict, share: float, ranked: bool, node_threshold: float) -> None:
    exact, partial = exact_and_partial(shape, share, ranked)
    assert_never_wrong(exact, decide(partial, node_threshold), node_threshold)


def worst_case(partial: Graph, seed: int) -> Graph:
    """A graph in which each missing row is one edge to a node that may be reached, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    layers, layout = partial.layout.layers(), partial.layout
    pos = layout.positions(torch.tensor([target.pos for target in partial.targets]))
    target, source, weight = [partial.edge_target], [partial.edge_source], [partial.edge_weight]
    for node in (~partial.has_row).nonzero().flatten().tolist():
        reachable = ((layers < layers[node]) & (pos <= pos[node])).nonzero().flatten()
        reachable = reachable[reachable < layout.first_target]
        picked = reachable[torch.randint(len(reachable), (1,), generator=generator)]
        target, source = [*target, torch.tensor([node])], [*source, picked]
        weight = [*weight, torch.ones(1)]
    graph = replace(
        partial, edge_target=torch.cat(target), edge_source=torch.cat(source), edge_weight=torch.cat(weight),
        has_row=torch.ones_like(partial.has_row),
    )  # fmt: skip
    return replace(graph, influence=influence_of(graph))


@given(SHAPES, SHARES, st.booleans(), st.integers(0, 2**31))
@settings(max_examples=200)
def test_no_verdict_is_wrong_when_a_missing_row_is_a_single_edge(
    shape: dict, share: float, ranked: bool, seed: int
) -> None:
    _, partial = exact_and_partial(shape, share, ranked)
    assert_never_wrong(worst_case(partial, seed), decide(partial, 0.8), 0.8)


@given(SHAPES)
@settings(max_examples=60)
def test_with_every_row_all_but_near_ties_are_decided(shape: dict) -> None:
    exact = random_graph(**shape)
    decided = decide(exact, 0.8)
    assert_never_wrong(exact, decided, 0.8)
    ranking = rank(exact.influence, 0.8)
    always = exact.layout.is_kind(NodeKind.token) | exact.layout.is_kind(NodeKind.logit)
    undecided = ~(decided.certainly_kept | decided.certainly_dropped)
    assert not (undecided & always).any()
    # Shares within rounding of the cut, and what is equal to such a node's influence.
    near = (ranking.cumulative - 0.8).abs() < 100 * ROUNDING
    tied = torch.isclose(exact.influence[:, None], exact.influence[None], rtol=1e-4).sum(1) > 1
    assert not (undecided & ~near & ~tied).any()


@pytest.mark.parametrize(("coverage", "least_share"), [(0.9, 0.3), (0.95, 0.5), (0.99, 0.7), (1.0, 0.999)])
def test_most_nodes_of_the_demo_model_are_decided_and_none_wrongly(
    demo_model: ReplacementModel, coverage: float, least_share: float
) -> None:
    for prompt in DEMO_PROMPTS:
        prepared = prepare(demo_model, demo_model.tokenize(prompt))
        exact = graph_of(demo_model, prepared)
        partial = graph_of(demo_model, prepared, coverage=coverage, every_row_flops=0.0)
        decided = partial.decided(0.8)
        assert_never_wrong(exact, decided, 0.8)
        assert decided.share_decided >= least_share


def test_without_any_row_nothing_is_decided_but_what_no_walk_reaches() -> None:
    exact = random_graph(seed=3, n_layers=3, n_pos=2, n_features=12, spread=0.0)
    partial = with_rows(exact, torch.zeros(12, dtype=torch.bool))
    decided = decide(partial, 0.8)
    assert decided.share_decided < 0.6
    assert not (decided.certainly_kept & decided.certainly_dropped).any()


def test_a_threshold_outside_the_unit_interval_is_refused() -> None:
    graph = random_graph(seed=0, n_layers=2, n_pos=2, n_features=4)
    with pytest.raises(ConfigError, match=r"share in \[0, 1\]"):
        graph.decided(1.5)
