"""Recurring circuits as frames: what the tables hold, by value, by name and by kind."""

from pathlib import Path

import pytest

import tracer
from tests.tables.tiny_prompts import draw_prompts
from tests.tables.tiny_run import aggregate_prompts
from tracer import Results
from tracer.errors import DataError


def test_a_consensus_has_its_row_nodes_and_edges(results: Results) -> None:
    found = results.circuits.consensus("two_hop_capital")
    circuit_id = found.row["circuit_id"]
    assert (found.row["kind"], found.row["by_value"]) == ("consensus", "two_hop_capital")
    assert found.nodes.height == found.row["n_members"] > 0
    edges = results.sql("SELECT * FROM circuit_edges WHERE circuit_id = ?", [circuit_id])
    assert found.edges.height == edges.height > 0
    assert found.edges["support"].to_list() == sorted(edges["support"], reverse=True)
    tokens = found.nodes.filter(found.nodes["kind"] != "feature")
    assert tokens["label"].null_count() == 0
    assert results.circuits.one(circuit_id).nodes.equals(found.nodes)
    assert results.circuits.supernodes(circuit_id).columns[:2] == ["circuit_id", "n_members"]


def test_circuits_are_listed_by_kind(results: Results) -> None:
    every = results.circuits.list()
    assert every.height == results.table("circuits").height
    for kind in set(every["kind"]):
        assert set(results.circuits.list(kind)["kind"]) == {kind}


def test_clusters_are_counted_by_value(results: Results) -> None:
    frame = results.circuits.clusters_by_value()
    assert frame["n_graphs"].sum() == results.table("circuit_graphs").height
    for _, of_cluster in frame.group_by("circuit_id"):
        assert of_cluster["share_of_cluster"].sum() == pytest.approx(1)


def test_what_is_not_there_is_refused(results: Results) -> None:
    with pytest.raises(DataError, match="no consensus circuit of it; expected one of: antonym"):
        results.circuits.consensus("antonyms")
    with pytest.raises(DataError, match="circuit nothing: found no such circuit"):
        results.circuits.one("nothing")


def test_a_run_without_prompts_answers_with_empty_frames(tmp_path: Path) -> None:
    with tracer.open(aggregate_prompts(tmp_path, draw_prompts(0), 1)) as empty:
        assert empty.features().height == 0
        assert empty.components.pairs().height == 0
        assert empty.top_feature_tuples(3, ["MLP0", "MLP1"]).height == 0
        assert empty.unique_features().height == 0
        assert empty.graphs.completeness().height == 0
        assert empty.circuits.list().height == 0
        assert empty.hypergraph()["MLP0"] == {"frequency": None, "features": []}
