"""Graphs made of graph JSON, and files of which none can be made."""

import json

import pytest

from tests.graph.formats.graphs import small_graph
from tracer.errors import DataError
from tracer.graph.formats.graph_json import read_json, to_graph_json, write_json


def as_data():
    return json.loads(json.dumps(to_graph_json(small_graph(), slug="a", scan="s").data))


def read_back(tmp_path, data):
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return read_json(path)


def broken(tmp_path, change):
    data = as_data()
    change(data)
    return read_back(tmp_path, data)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("nodes"),
        lambda data: data.update(links={}),
        lambda data: data["metadata"].pop("prompt"),
        lambda data: data["metadata"].update(prompt_tokens=[1]),
        lambda data: data["nodes"].append("node"),
        lambda data: data["nodes"][0].pop("node_id"),
        lambda data: data["nodes"][0].update(ctx_idx="0"),
        lambda data: data["nodes"][0].update(activation="high"),
        lambda data: data["links"][0].update(weight=None),
        lambda data: data["links"][0].update(weight=10**400),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path, change):
    with pytest.raises(DataError, match=r"edited\.json: found .*; expected the JSON of an attribution graph"):
        broken(tmp_path, change)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["nodes"][0].update(feature_type="lorsa"),
        lambda data: data["nodes"][0].update(layer="x"),
        lambda data: data["nodes"][0].update(layer="9" * 5000),
        lambda data: data["nodes"][0].update(node_id="f", feature=10**30),
        lambda data: data["nodes"][0].update(ctx_idx=4, node_id="f"),
        lambda data: data["nodes"][-1].update(layer="999999", feature_type="mlp reconstruction error"),
        lambda data: data.update(nodes=[node for node in data["nodes"] if node["feature_type"] != "logit"]),
        lambda data: data["links"][0].update(source=data["links"][0]["target"]),
        lambda data: data["nodes"].append(data["nodes"][0] | {"node_id": "other", "jsNodeId": "other"}),
    ],
)
def test_a_graph_that_makes_no_sense_is_kept_as_a_file_and_refused_as_a_graph(tmp_path, change):
    record = broken(tmp_path, change)
    with pytest.raises(DataError, match=r"edited\.json"):
        record.graph()


def test_links_of_nodes_that_are_not_there_are_left_out_as_viewers_do(tmp_path):
    record = broken(tmp_path, lambda data: data["links"].append({"source": "x", "target": "y", "weight": 1.0}))
    assert len(record.graph().edge_weight) == len(record.links) - 1


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    path = write_json(small_graph(), tmp_path, "a", scan="s")
    with pytest.raises(DataError, match="expected at most 100"):
        read_json(path, max_bytes=100)


def test_files_of_the_first_schema_number_features_otherwise(tmp_path):
    data = as_data()
    features = [node for node in data["nodes"] if node["feature_type"] == "cross layer transcoder"]
    for node in features:
        node["feature"] = int(node["layer"]) * 100_000 + int(node["node_id"].split("_")[1])
        node["layer"] = int(node["layer"])
    del data["metadata"]["schema_version"]
    assert read_back(tmp_path, data).graph().layout.n_features == len(features)
