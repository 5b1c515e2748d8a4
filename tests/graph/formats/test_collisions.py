"""Files in which errors and features share names: told apart where the file says which is which, reported always."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.graph.formats.graphs import graph_with_features
from tracer.errors import DataError
from tracer.graph.formats.graph_json import read_json, to_graph_json
from tracer.graph.formats.ids import cantor

OWN_ID, OWN_JS_ID = re.compile(r"(\d+)_err_(\d+)"), re.compile(r"(\d+)_err-(\d+)")
FEATURES = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=8, unique=True
).map(lambda places: [list(place) for place in places])


def as_circuit_tracer_names(data):
    """The same file with circuit-tracer's names for errors, whatever they clash with."""

    def renamed(name):
        return OWN_ID.sub(r"0_\1_\2", name)

    nodes = [
        node | {"node_id": renamed(node["node_id"]), "jsNodeId": OWN_JS_ID.sub(r"\1_\2-0", node["jsNodeId"])}
        for node in data["nodes"]
    ]
    links = [link | {"source": renamed(link["source"])} for link in data["links"]]
    return json.loads(json.dumps(data | {"nodes": nodes, "links": links}))


def read(folder, data):
    path = folder / "graph.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return read_json(path)


def n_open(collisions):
    found = [re.search(r"of which (\d+) could be either's", report) for report in collisions]
    return sum(int(one[1]) for one in found if one)


@given(features=FEATURES, seed=st.integers(0, 5), share=st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_clashing_names_are_told_apart(tmp_path_factory, features, seed, share):
    graph = graph_with_features(features, seed=seed)
    truth = to_graph_json(graph, slug="a", scan="s", node_threshold=share, edge_threshold=share).data
    assert len({node["node_id"] for node in truth["nodes"]}) == len(truth["nodes"])
    clashing = as_circuit_tracer_names(truth)
    record = read(tmp_path_factory.mktemp("clash"), clashing)
    assert record.nodes == truth["nodes"]
    wrong = [found for found, right in zip(record.links, truth["links"], strict=True) if found != right]
    assert len(wrong) <= n_open(record.collisions)
    assert bool(record.collisions) == (clashing != truth)
    assert record.data["metadata"] == truth["metadata"]


def test_a_whole_graph_of_clashes_is_read_without_a_doubt(tmp_path):
    graph = graph_with_features([[0, pos, layer] for pos in range(3) for layer in range(4)])
    truth = to_graph_json(graph, slug="a", scan="s", node_threshold=None, edge_threshold=None).data
    record = read(tmp_path, as_circuit_tracer_names(truth))
    assert record.data == truth
    assert len(record.collisions) == 12 + 12
    assert record.collisions[0] == "0_0_0 (0_0-0): the error of layer 0 at position 0 is now 0_err_0 (0_err-0)"
    assert "0_0_0: 4 links shared out between a feature and an error" in record.collisions
    assert n_open(record.collisions) == 0
    assert record.graph().layout.n_features == 12


def test_a_link_that_could_be_of_either_is_reported(tmp_path):
    graph = graph_with_features([[0, 1, 2]])
    truth = to_graph_json(graph, slug="a", scan="s", node_threshold=None, edge_threshold=None).data
    clashing = as_circuit_tracer_names(truth)
    # Of all links into the first target only one out of the shared name is left, with nothing around it.
    targets = [node["node_id"] for node in truth["nodes"] if node["feature_type"] == "logit"]
    last = {"source": "0_2_1", "target": targets[0], "weight": 3.0}
    record = read(tmp_path, clashing | {"links": [last]})
    assert record.links == [last]
    assert "0_2_1: 1 links shared out between a feature and an error, of which 1 could be either's" in str(
        record.collisions
    )


def test_only_the_name_for_scripts_may_clash(tmp_path):
    graph = graph_with_features([[2, 0, 1]])
    truth = to_graph_json(graph, slug="a", scan="s", node_threshold=None, edge_threshold=None).data
    errors = {node["node_id"]: node["jsNodeId"] for node in truth["nodes"] if node["feature"] == -1}
    assert errors["0_2_1"] == "2_err-1"
    assert list(errors.values()).count("2_0-0") == 1
    record = read(tmp_path, as_circuit_tracer_names(truth))
    assert record.data == truth
    assert record.collisions == ["0_2_1 (2_1-0): the error of layer 2 at position 1 is now 0_2_1 (2_err-1)"]


def test_thousands_of_clashes_are_told_apart(tmp_path):
    places = [(layer, pos) for pos in range(1500) for layer in range(4)]
    nodes = [
        {"node_id": f"0_{layer}_{pos}", "feature": number, "layer": at, "ctx_idx": pos, "feature_type": kind,
         "jsNodeId": js_id, "clerp": ""}
        for layer, pos in places
        for number, at, kind, js_id in (
            (cantor(0, layer), "0", "cross layer transcoder", f"0_{layer}-0"),
            (-1, str(layer), "mlp reconstruction error", f"{layer}_{pos}-0"),
        )
    ]  # fmt: skip
    target = {"node_id": "5_1_0", "feature": 1, "layer": "5", "ctx_idx": 0, "feature_type": "logit", "jsNodeId": "L",
              "clerp": "x", "token_prob": 1.0}  # fmt: skip
    links = [{"source": node["node_id"], "target": "5_1_0", "weight": 1.0} for node in nodes[::2]]
    metadata = {"slug": "x", "scan": "x", "prompt": "x", "prompt_tokens": ["a"] * 1500}
    data = {"metadata": metadata, "qParams": {}, "nodes": [*nodes, target], "links": links}
    record = read(tmp_path, data)
    assert len({node["node_id"] for node in record.nodes}) == len(record.nodes) == 12_001
    assert n_open(record.collisions) == 6000, "no link says whose it is"
    assert [node for node in record.nodes if node["feature"] != -1] == [*nodes[::2], target]


def test_two_features_of_one_name_are_refused(tmp_path):
    graph = graph_with_features([[1, 0, 7]])
    data = to_graph_json(graph, slug="a", scan="s", node_threshold=None, edge_threshold=None).data
    with pytest.raises(DataError, match="2 nodes called 1_7_0; expected a name for every node"):
        read(tmp_path, data | {"nodes": [*data["nodes"], data["nodes"][0]]})
