"""Graph JSON of other writers: what they write otherwise than we do stays as it is."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.graph.formats.graphs import FEATURE, LOGIT, of_type, read_back, small_graph, written
from tracer.errors import DataError

ALL = {"node_threshold": None, "edge_threshold": None}


def renamed(data, names):
    for node in data["nodes"]:
        node["node_id"] = names.get(node["node_id"], node["node_id"])
    for link in data["links"]:
        link |= {end: names.get(link[end], link[end]) for end in ("source", "target")}


def on_all(feature_type, change):
    def changed(data):
        for node in of_type(data, feature_type) if feature_type else data["nodes"]:
            node |= change(node)

    return changed


AS_OTHERS_WRITE = {
    "no first target": on_all(LOGIT, lambda _: {"is_target_logit": False}),
    "later run": on_all(None, lambda _: {"run_idx": 3, "reverse_ctx_idx": 2}),
    "unknown probability": on_all("embedding", lambda _: {"token_prob": None}),
    "layers as numbers": on_all(FEATURE, lambda node: {"layer": int(node["layer"])}),
    "unexplored": on_all(FEATURE, lambda _: {"feature_type": "unexplored node"}),
    "other script ids": on_all(FEATURE, lambda node: {"jsNodeId": node["jsNodeId"].replace("-0", "-8")}),
    "numbers of mid-2025": on_all(
        FEATURE, lambda node: {"feature": int(node["layer"]) * 100_000 + int(node["node_id"].split("_")[1])}
    ),
    "embeddings below": on_all("embedding", lambda _: {"layer": "-1"}),
    "targets far above": on_all(LOGIT, lambda _: {"layer": "27"}),
    "ids of another form": lambda data: renamed(
        data, {node["node_id"]: f"n{place}" for place, node in enumerate(of_type(data, FEATURE))}
    ),
    "a link twice": lambda data: data["links"].extend([dict(data["links"][0]), data["links"][0] | {"weight": 0.25}]),
    "links in another order": lambda data: data["links"].reverse(),
    "a link from nowhere": lambda data: data["links"].insert(
        0, {"source": "nowhere", "target": data["nodes"][-1]["node_id"], "weight": 1}
    ),
    "whole weights": lambda data: data["links"][0].update(weight=10**40),
}
TOGETHER = st.lists(st.sampled_from(sorted(AS_OTHERS_WRITE)), unique=True, max_size=4).filter(
    lambda names: len({"unexplored", "numbers of mid-2025", "ids of another form"} & set(names)) < 2
)


@settings(max_examples=25)
@given(seed=st.integers(0, 10), names=TOGETHER, share=st.sampled_from([0.3, 0.7]))
def test_what_others_write_stays_as_it_is(tmp_path_factory, seed, names, share):
    folder = tmp_path_factory.mktemp("others")
    data = written(folder, small_graph(seed), **ALL)
    for name in sorted(names):
        AS_OTHERS_WRITE[name](data)
    record = read_back(folder, data)
    graph = record.graph()
    assert json.dumps(record.with_graph(graph).data) == json.dumps(data)
    pruned = graph.prune(share, share)
    smaller = record.with_graph(pruned)
    assert len(smaller.nodes) == int(pruned.node_mask.sum())
    n_dangling = sum(link["source"] == "nowhere" for link in data["links"])
    assert len(smaller.links) == len(pruned.edge_weight) + n_dangling
    for found, before in ((smaller.nodes, record.nodes), (smaller.links, record.links)):
        rest = iter(before)
        assert all(any(entry is other for other in rest) for entry in found), "the file's own, in its order"


@pytest.mark.parametrize("name", sorted(AS_OTHERS_WRITE))
def test_every_way_of_others_changes_the_file_and_is_kept(tmp_path, name):
    data = written(tmp_path, small_graph(), **ALL)
    before = json.dumps(data)
    AS_OTHERS_WRITE[name](data)
    assert json.dumps(data) != before
    record = read_back(tmp_path, data)
    assert json.dumps(record.with_graph(record.graph()).data) == json.dumps(data)


def test_the_graph_of_another_file_is_refused(tmp_path):
    record = read_back(tmp_path, written(tmp_path, small_graph(), **ALL))
    graph = record.graph()
    for other in (small_graph(3), replace(graph, edge_weight=graph.edge_weight * 2)):
        with pytest.raises(DataError, match="a graph with other (nodes|edges); expected the graph of this file"):
            record.with_graph(other)
    smaller = record.with_graph(graph.prune(0.3, 0.3))
    with pytest.raises(DataError, match="a graph with other nodes"):
        smaller.with_graph(graph)
