"""Scores of subgraphs: worked by hand, against a dense computation, and as properties of random graphs."""

from math import isnan

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.graph.random_graphs import random_graph
from tests.graph.test_influence_and_pruning import hand_graph
from tracer.attribution.attribute import attribute
from tracer.errors import DataError
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind
from tracer.graph.scores import Scores
from tracer.model.replacement import ReplacementModel

SHAPES = st.fixed_dictionaries({
    "seed": st.integers(0, 2**31), "n_layers": st.integers(1, 5), "n_pos": st.integers(1, 4),
    "n_features": st.integers(1, 25),
})  # fmt: skip


def mask_of(graph: Graph, *nodes: int) -> Tensor:
    chosen = torch.zeros(graph.layout.n_nodes, dtype=torch.bool)
    chosen[list(nodes)] = True
    return chosen


def dense_scores(graph: Graph, chosen: Tensor) -> Scores:
    """The definition, with a dense matrix and its inverse, in double precision."""
    layout = graph.layout
    absolute = graph.adjacency().double().abs()
    normalised = absolute / absolute.sum(1, keepdim=True).clamp_min(1e-10)
    counts_as_error = layout.is_kind(NodeKind.error) | (layout.is_kind(NodeKind.feature) & ~chosen)
    normalised[counts_as_error] = 0
    weights = graph.target_weights.double()
    visits = weights @ torch.linalg.inv(torch.eye(layout.n_nodes).double() - normalised)
    tokens = (visits * layout.is_kind(NodeKind.token)).sum()
    replacement = tokens / (tokens + (visits * counts_as_error).sum())
    explained = 1 - normalised[:, counts_as_error].sum(1)
    return Scores(replacement=float(replacement), completeness=float((explained * visits).sum() / visits.sum()))


def assert_close(found: Scores, expected: Scores) -> None:
    assert found.replacement == pytest.approx(expected.replacement, abs=1e-5, nan_ok=True)
    assert found.completeness == pytest.approx(expected.completeness, abs=1e-5, nan_ok=True)


def test_the_hand_worked_graph_without_feature_one() -> None:
    # Feature 2 takes 0.55 of the targets' 0.8 and passes 1/4 to token y and 1/4 to feature 0, which passes all of it to
    # token x; feature 1 keeps the 0.15 of target 9 and the 0.275 of feature 2; the error keeps 0.1.
    graph = hand_graph()
    scores = graph.scores(mask_of(graph, 0, 2))
    assert scores.replacement == pytest.approx(0.275 / 0.8)
    # On what is left out lies 1/4 of target 9, 1/2 of target 10, 1/2 of feature 2; I + w sums to 0.8 + 0.55 + 0.425 +
    # 0.1 + 0.1375 + 0.1375 + 0.1375.
    total = 0.8 + 0.55 + 0.425 + 0.1 + 3 * 0.1375
    assert scores.completeness == pytest.approx(1 - (0.6 / 4 + 0.2 / 2 + 0.55 / 2) / total)


def test_without_any_feature_only_direct_effects_of_tokens_count() -> None:
    graph = hand_graph()
    scores = graph.scores(mask_of(graph))
    assert scores.replacement == 0.0
    assert scores.completeness == pytest.approx(1 - 0.8 / 1.6)


@given(SHAPES, st.integers(0, 2**31))
@settings(max_examples=100)
def test_subgraph_scores_equal_a_dense_computation(shape: dict, seed: int) -> None:
    graph = random_graph(**shape)
    chosen = torch.rand(graph.layout.n_nodes, generator=torch.Generator().manual_seed(seed)) > 0.5
    if float(graph.influence.sum()) > 0:
        assert_close(graph.scores(chosen), dense_scores(graph, chosen))


@given(SHAPES)
@settings(max_examples=60)
def test_the_whole_set_gives_the_plain_scores(shape: dict) -> None:
    graph = random_graph(**shape)
    if float(graph.influence.sum()) > 0:
        assert_close(graph.scores(torch.ones(graph.layout.n_nodes, dtype=torch.bool)), graph.scores())


@given(SHAPES)
@settings(max_examples=60)
def test_the_empty_set_gives_the_share_of_the_targets_direct_inputs(shape: dict) -> None:
    graph = random_graph(**shape)
    if float(graph.influence.sum()) == 0:
        return
    layout = graph.layout
    rows = graph.adjacency()[layout.first_target :].abs()
    shares = (rows / rows.sum(1, keepdim=True).clamp_min(1e-10)).T @ graph.target_weights[layout.first_target :]
    expected = shares[layout.first_token : layout.first_target].sum() / shares.sum()
    assert graph.scores(mask_of(graph)).replacement == pytest.approx(float(expected), abs=1e-5)


@given(SHAPES, st.integers(0, 2**31))
@settings(max_examples=60)
def test_choosing_more_never_lowers_the_replacement_score(shape: dict, seed: int) -> None:
    graph = random_graph(**shape)
    draws = torch.rand(graph.layout.n_nodes, generator=torch.Generator().manual_seed(seed))
    if float(graph.influence.sum()) > 0:
        fewer, more = graph.scores(draws > 0.7), graph.scores(draws > 0.3)
        # undefined where all influence ends in features without sources
        assert isnan(more.replacement) or fewer.replacement <= more.replacement + 1e-5


def test_the_pruned_nodes_of_the_demo_model_explain_most_of_what_all_explain(demo_model: ReplacementModel) -> None:
    graph = attribute("the capital of the state containing Dallas is", demo_model)
    kept = graph.prune(0.95, 1.0).node_mask
    whole, part, none = graph.scores(), graph.scores(kept), graph.scores(mask_of(graph))
    assert none.replacement < 0.5 * part.replacement
    assert 0.5 * whole.replacement < part.replacement <= whole.replacement
    assert_close(part, dense_scores(graph, kept))


def test_a_mask_of_another_graph_is_refused() -> None:
    with pytest.raises(DataError, match="one of all 11 nodes"):
        hand_graph().scores(torch.ones(7, dtype=torch.bool))


def test_a_graph_that_lacks_edges_is_refused() -> None:
    pruned = hand_graph().prune()
    with pytest.raises(DataError, match="the unpruned graph"):
        pruned.scores(pruned.node_mask)
