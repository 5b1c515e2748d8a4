"""Where the nodes and edges of a drawn graph lie."""

from itertools import combinations
from pathlib import Path

import pytest

from tracer.views.graph_choice import ChosenGraph, choose_graph
from tracer.views.graph_svg import N_NUMBERED, draw_graph


@pytest.fixture(scope="module")
def graph(finished_run: Path) -> ChosenGraph:
    return choose_graph(finished_run)


def half_width(node) -> float:
    return node.width / 2 or node.radius


def test_every_node_is_drawn_once_and_inside_the_picture(graph: ChosenGraph):
    drawing = draw_graph(graph)
    assert sorted(node.node_idx for node in drawing.nodes) == sorted(graph.nodes["node_idx"])
    for node in drawing.nodes:
        assert half_width(node) <= node.x <= drawing.width - half_width(node)
        assert 0 < node.y < drawing.height


def test_position_runs_to_the_right_and_layer_upwards(graph: ChosenGraph):
    drawing = draw_graph(graph)
    placed = {node.node_idx: node for node in drawing.nodes}
    heights = {"token": -1, "logit": graph.n_layers}
    rows = [row for row in graph.nodes.iter_rows(named=True)]
    for row in rows:
        column = drawing.columns[row["pos"]]
        if row["kind"] != "logit":
            assert column.x < placed[row["node_idx"]].x < column.x + column.width
    for first, second in combinations(rows, 2):
        first_height, second_height = (heights.get(row["kind"], row["layer"]) for row in (first, second))
        if first_height < second_height:
            assert placed[first["node_idx"]].y > placed[second["node_idx"]].y


def test_no_node_covers_another(graph: ChosenGraph):
    for first, second in combinations(draw_graph(graph).nodes, 2):
        apart_x = abs(first.x - second.x) >= half_width(first) + half_width(second)
        assert apart_x or abs(first.y - second.y) >= 14


def test_edges_keep_their_ends_and_signs_and_the_strongest_is_drawn_last(graph: ChosenGraph):
    drawn = draw_graph(graph).edges
    rows = list(graph.edges.iter_rows(named=True))
    assert {(edge.source_idx, edge.target_idx, edge.is_negative) for edge in drawn} == {
        (row["source_idx"], row["target_idx"], row["weight"] < 0) for row in rows
    }
    assert (drawn[-1].source_idx, drawn[-1].target_idx) == (rows[0]["source_idx"], rows[0]["target_idx"])
    widths = {(edge.source_idx, edge.target_idx): edge.width for edge in drawn}
    thickest = max(rows, key=lambda row: row["normalised_weight"])
    assert widths[thickest["source_idx"], thickest["target_idx"]] == max(widths.values())


def test_numbers_go_to_the_features_with_most_influence_in_order(graph: ChosenGraph):
    key = draw_graph(graph).key
    influences = sorted(graph.nodes.filter(graph.nodes["kind"] == "feature")["influence"], reverse=True)
    assert [entry.influence for entry in key] == influences[:N_NUMBERED]
    assert [entry.number for entry in key] == list(range(1, len(key) + 1))
