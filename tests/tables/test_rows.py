"""Rows of the graph tables from a real graph: exact schemas, and counts that agree with the graph and one another."""

import math

import polars as pl
import pyarrow as pa
import pytest

from tests.graph.random_graphs import random_graph
from tracer.attribution.attribute import attribute
from tracer.graph.graph import Graph
from tracer.graph.layout import NodeKind
from tracer.model.replacement import ReplacementModel
from tracer.tables import rows
from tracer.tables.schema import TABLES


@pytest.fixture(scope="module")
def graph(demo_model: ReplacementModel) -> Graph:
    return attribute("the capital of the state containing Dallas is", demo_model)


@pytest.fixture(scope="module")
def pruned(graph: Graph) -> Graph:
    return graph.prune()


@pytest.mark.parametrize(("name", "make"), [("nodes", rows.node_frame), ("edges", rows.edge_frame)])
def test_frames_of_a_graph_become_tables_of_the_declared_schema(pruned: Graph, name: str, make) -> None:
    table = rows.as_table(TABLES[name], make(pruned, "g"))
    assert table.schema.equals(TABLES[name].arrow_schema())
    assert len(table) == len(getattr(pruned, name)()) > 10
    assert set(table["graph_id"].to_pylist()) == {"g"}


def test_the_graphs_row_counts_what_the_other_rows_hold(graph: Graph, pruned: Graph) -> None:
    record = rows.graph_record(graph, pruned, graph_id="g", prompt_id="p")
    nodes, edges = rows.node_frame(pruned, "g"), rows.edge_frame(pruned, "g")
    kinds = dict(nodes["kind"].value_counts().rows())
    assert record["n_nodes"] == len(nodes)
    assert record["n_edges"] == len(edges)
    assert record["n_feature_nodes"] == kinds["feature"] < record["n_active_features"]
    assert record["n_error_nodes"] == kinds.get("error", 0)
    assert kinds["token"] == record["n_tokens"] == 9
    assert kinds["logit"] == len(graph.targets) == pruned.count(NodeKind.logit)
    assert record["n_rows_computed"] == record["n_active_features"]
    assert 0 < record["replacement_score"] < record["completeness_score"] < 1
    declared = set(TABLES["graphs"].column_names())
    assert declared - set(record) == {column.name for column in TABLES["graphs"].columns if column.volatile}
    assert set(record) < declared


def test_a_score_that_says_nothing_is_null() -> None:
    graph = random_graph(seed=12854, n_layers=1, n_pos=1, n_features=1)  # its one feature has no sources
    assert math.isnan(graph.scores().replacement)
    record = rows.graph_record(graph, graph.prune(), graph_id="g", prompt_id="p")
    assert (record["replacement_score"], record["completeness_score"]) == (None, 1.0)


def test_edges_refer_to_nodes_and_nodes_tell_where_they_are(pruned: Graph) -> None:
    nodes, edges = rows.node_frame(pruned, "g"), rows.edge_frame(pruned, "g")
    assert set(edges["source_idx"]) | set(edges["target_idx"]) <= set(nodes["node_idx"])
    assert nodes.filter(pl.col("kind") == "feature").null_count().sum_horizontal().item() == 0
    others = nodes.filter(pl.col("kind") != "feature")
    assert others["feature"].is_null().all()
    assert others["activation"].is_null().all()
    assert nodes.filter(pl.col("kind").is_in(["token", "logit"]))["layer"].is_null().all()


def test_logit_rows_are_the_targets_likeliest_first(graph: Graph) -> None:
    table = rows.from_records(TABLES["logits"], rows.logit_records(graph, "g"))
    assert table.schema.equals(TABLES["logits"].arrow_schema())
    assert table["token"][0].as_py() == "Austin"
    assert table["target_idx"].to_pylist() == list(range(len(graph.targets)))
    probabilities = table["probability"].to_pylist()
    assert probabilities == sorted(probabilities, reverse=True)
    assert set(table["pos"].to_pylist()) == {8}


def test_a_column_that_a_record_lacks_is_null_and_one_of_another_type_is_refused() -> None:
    failures = TABLES["failures"]
    table = rows.from_records(failures, [{"stage": "trace", "item_id": "p"}])
    assert table.schema.equals(failures.arrow_schema())
    assert table["message"].to_pylist() == [None]
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        rows.from_records(failures, [{"stage": "trace", "item_id": "p", "attempts": "many"}])


def test_a_frame_that_lacks_a_declared_column_is_refused(pruned: Graph) -> None:
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="weight"):
        rows.as_table(TABLES["edges"], rows.edge_frame(pruned, "g").drop("weight"))


def test_a_graph_id_tells_prompts_and_target_sets_apart() -> None:
    salient = {"max_n_logits": 10, "desired_logit_prob": 0.95}
    ids = [
        rows.make_graph_id("p", salient),
        rows.make_graph_id("q", salient),
        rows.make_graph_id("p", salient | {"max_n_logits": 5}),
        rows.make_graph_id("p", {"given": [3, 4]}),
        rows.make_graph_id("p", {"given": [4, 3]}),
    ]
    assert len(set(ids)) == len(ids)
    assert all(len(graph_id) == 16 and int(graph_id, 16) >= 0 for graph_id in ids)
    assert rows.make_graph_id("p", dict(reversed(salient.items()))) == ids[0]
