"""Influence, pruning and scores on a graph of a dozen nodes worked by hand, and as properties of random graphs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.errors import ConfigError
from tracer.graph.graph import Graph, Target
from tracer.graph.influence import edge_influence, influence, normalise_edges, normalise_rows
from tracer.graph.layout import NodeKind, NodeLayout
from tracer.graph.pruning import rank
from tracer.graph.scores import share_from

# Two layers, two positions, three features, four errors, two tokens, two targets:
# 0: f(0,0,5)  1: f(0,1,7)  2: f(1,1,9)  3..6: errors (0,0) (0,1) (1,0) (1,1)  7, 8: tokens  9, 10: targets
HAND_EDGES = {
    (9, 2): 3.0, (9, 1): -1.0, (9, 6): 0.0,  # target 9: |3| + |-1| = 4
    (10, 2): 2.0, (10, 6): 2.0,  # target 10: 4
    (2, 0): 1.0, (2, 1): 2.0, (2, 8): 1.0,  # feature 2: 4
    (1, 8): 5.0, (0, 7): -2.0,  # features 1 and 0: one source each
}  # fmt: skip


def hand_graph() -> Graph:
    layout = NodeLayout(features=torch.tensor([[0, 0, 5], [0, 1, 7], [1, 1, 9]]), n_layers=2, n_pos=2, n_targets=2)
    target, source = torch.tensor(list(HAND_EDGES)).T
    weight = torch.tensor(list(HAND_EDGES.values()))
    targets = tuple(
        Target(token=token, token_id=idx, pos=1, weight=weight_, logit=0.0)
        for idx, (token, weight_) in enumerate((("a", 0.6), ("b", 0.2)))
    )
    graph = Graph(
        layout=layout, text="x y", token_ids=torch.tensor([0, 1]), tokens=("x", "y"), targets=targets,
        activations=torch.tensor([1.0, 2.0, 3.0]), edge_target=target, edge_source=source, edge_weight=weight,
        has_row=torch.ones(3, dtype=torch.bool), row_bias=torch.zeros(11), error_share=torch.zeros(11),
        node_mask=torch.ones(11, dtype=torch.bool), influence=torch.zeros(11), uncovered_influence=0.0,
    )  # fmt: skip
    normalised = normalise_edges(target, weight, 11)
    error_share = share_from(layout.is_kind(NodeKind.error), target, source, normalised)
    reach = edge_influence(target, source, normalised, graph.target_weights)
    return replace(graph, influence=reach, error_share=error_share)


def test_influence_of_the_hand_worked_graph() -> None:
    # Feature 2: 0.6 * 3/4 + 0.2 * 2/4 = 0.55; error (1,1): 0.2 * 2/4 = 0.1; feature 1: 0.6 * 1/4 + 0.55 * 2/4 = 0.425;
    # feature 0: 0.55 / 4 = 0.1375; token y: 0.55 / 4 + 0.425 = 0.5625; token x: 0.1375.
    expected = torch.tensor([0.1375, 0.425, 0.55, 0, 0, 0, 0.1, 0.1375, 0.5625, 0, 0])
    torch.testing.assert_close(hand_graph().influence, expected)


def test_scores_of_the_hand_worked_graph() -> None:
    scores = hand_graph().scores()
    assert scores.replacement == pytest.approx(0.7 / 0.8)
    # Target 10 takes half of its input from an error; importance is I + w, in all 1.9125 + 0.8.
    assert scores.completeness == pytest.approx(1 - 0.5 * 0.2 / (1.9125 + 0.8))


def test_pruning_of_the_hand_worked_graph() -> None:
    # Descending: .5625 .55 .425 .1375 .1375 .1 of 1.9125; the share 0.8 is reached at .425 (0.8039): features 0 and
    # the error fall.
    pruned = hand_graph().prune(0.8, 1.0)
    assert pruned.node_mask.tolist() == [False, True, True, *[False] * 4, True, True, True, True]
    kept = set(zip(pruned.edge_target.tolist(), pruned.edge_source.tolist(), strict=True))
    assert kept == {(9, 2), (9, 1), (10, 2), (2, 1), (2, 8), (1, 8)}


def test_edge_scores_of_the_hand_worked_graph() -> None:
    pruned = hand_graph().prune(0.8, 1.0)
    # After renormalising: row 10 -> {2: 1}; row 2 -> {1: 2/3, 8: 1/3}; I(2) = 0.65; I(1) = 0.15 + 0.65 * 2/3.
    scores = {(edge["target_idx"], edge["source_idx"]): edge["edge_score"] for edge in pruned.edges().to_dicts()}
    nodes = {node["node_idx"]: node for node in pruned.nodes().to_dicts()}
    by_name = {
        (nodes[t]["kind"], nodes[t]["token"], nodes[s]["kind"], nodes[s]["feature"]): v for (t, s), v in scores.items()
    }
    assert by_name["logit", "a", "feature", 9] == pytest.approx(0.45 / 0.8)
    assert by_name["logit", "b", "feature", 9] == pytest.approx(0.2 / 0.8)
    assert by_name["feature", "y", "feature", 7] == pytest.approx(0.65 * 2 / 3 / 0.8)
    assert by_name["feature", "y", "token", None] in (
        pytest.approx(0.65 / 3 / 0.8),
        pytest.approx((0.15 + 0.65 * 2 / 3) / 0.8),
    )


def test_a_low_edge_threshold_drops_features_that_dangle() -> None:
    # The strongest edge is (1, 8) with 0.15 + 0.65 * 2/3 = 0.583; at a share of 0.2 only it stays, and feature 1 then
    # leads nowhere.
    pruned = hand_graph().prune(0.8, 0.2)
    assert len(pruned.edge_weight) == 0
    assert pruned.count(NodeKind.feature) == 0
    assert pruned.count(NodeKind.token) == 2


def test_threshold_one_keeps_every_node_with_a_way_in_and_out() -> None:
    pruned = hand_graph().prune(1.0, 1.0)
    assert pruned.node_mask.nonzero().flatten().tolist() == [0, 1, 2, 6, 7, 8, 9, 10]
    assert len(pruned.edge_weight) == len(HAND_EDGES) - 1, "only the edge of weight zero is gone"


def test_threshold_zero_keeps_the_largest_alone() -> None:
    assert rank(torch.tensor([1.0, 3.0, 2.0]), 0.0).kept.tolist() == [False, True, False]


def test_ties_at_the_cut_stay_together() -> None:
    assert rank(torch.tensor([2.0, 1.0, 1.0]), 0.6).kept.tolist() == [True, True, True]


@pytest.mark.parametrize("threshold", [-0.1, 1.1])
def test_thresholds_outside_the_unit_interval_are_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"share in \[0, 1\]"):
        hand_graph().prune(node_threshold=threshold)


def test_adjacency_is_dense_in_node_order() -> None:
    adjacency = hand_graph().adjacency()
    assert adjacency.shape == (11, 11)
    assert adjacency[9, 1] == -1.0
    assert adjacency[1, 9] == 0.0


def test_nodes_and_edges_frames_agree() -> None:
    pruned = hand_graph().prune(0.8, 0.98)
    nodes, edges = pruned.nodes(), pruned.edges()
    assert nodes["node_idx"].to_list() == list(range(len(nodes)))
    assert set(edges["source_idx"]) | set(edges["target_idx"]) <= set(nodes["node_idx"])
    feature = nodes.filter(nodes["kind"] == "feature").row(0, named=True)
    assert (feature["layer"], feature["pos"], feature["feature"], feature["token"]) == (0, 1, 7, "y")


@st.composite
def layered_matrices(draw: st.DrawFn) -> torch.Tensor:
    n_nodes = draw(st.integers(3, 12))
    values = draw(st.lists(st.floats(-5, 5, width=32), min_size=n_nodes * n_nodes, max_size=n_nodes * n_nodes))
    return torch.tensor(values).reshape(n_nodes, n_nodes).tril(-1)


@given(layered_matrices())
@settings(max_examples=60, deadline=None)
def test_influence_equals_the_matrix_inverse(matrix: torch.Tensor) -> None:
    n_nodes = len(matrix)
    weights = torch.zeros(n_nodes)
    weights[-1] = 1.0
    normalised = normalise_rows(matrix)
    solved = influence(normalised, torch.arange(n_nodes), weights)
    inverse = torch.linalg.inv(torch.eye(n_nodes).double() - normalised.double())
    torch.testing.assert_close(solved.double(), weights.double() @ (inverse - torch.eye(n_nodes)), atol=1e-4, rtol=1e-4)
    target, source = matrix.nonzero(as_tuple=True)
    sparse = edge_influence(target, source, normalise_edges(target, matrix[target, source], n_nodes), weights)
    torch.testing.assert_close(sparse, solved, atol=1e-5, rtol=1e-4)


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_rank_keeps_the_fewest_values_that_hold_the_share(values: list[float], threshold: float) -> None:
    tensor = torch.tensor(values)
    ranking = rank(tensor, threshold)
    kept = tensor[ranking.kept]
    assert kept.double().sum() >= threshold * tensor.double().sum() - 1e-6
    without_ties = tensor[tensor > kept.min()]
    if tensor.sum() > 0:
        assert without_ties.double().sum() <= threshold * tensor.double().sum() + 1e-6
