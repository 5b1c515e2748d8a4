"""Graphs in tracer's own file come back bit for bit, and nothing else is taken for one."""

import json
import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.graph.formats.graphs import TARGETS, assert_same_graph, small_graph
from tracer.errors import ArtifactError
from tracer.graph.formats import own
from tracer.graph.formats.own import load_graph, save_graph
from tracer.graph.graph import Graph

TEXTS = st.text(max_size=8)


def test_every_field_of_a_graph_has_a_place_in_the_file():
    in_header = {"layout", "text", "tokens", "targets", "uncovered_influence", "n_near_cut"}
    assert {field.name for field in fields(Graph)} == own._TENSORS.keys() | in_header


@given(
    seed=st.integers(0, 30), text=TEXTS, tokens=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS), token=TEXTS,
    numbers=st.lists(st.floats(width=64), min_size=3, max_size=3), token_id=st.none() | st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float32, torch.float64]), cut=st.booleans(),
)  # fmt: skip
def test_a_graph_comes_back_bit_for_bit(tmp_path_factory, seed, text, tokens, token, numbers, token_id, dtype, cut):
    target = replace(TARGETS[0], token=token, token_id=token_id, weight=numbers[0], logit=numbers[1])
    graph = small_graph(seed)
    graph = graph.prune(0.7, 0.9) if cut else graph
    graph = replace(
        graph, text=text, tokens=tokens, targets=(target, TARGETS[1]), uncovered_influence=numbers[2],
        edge_weight=graph.edge_weight.to(dtype), edge_target=graph.edge_target.int(),
        row_bias=torch.full_like(graph.row_bias, math.nan),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("own") / "graph.safetensors"
    save_graph(graph, path)
    assert_same_graph(load_graph(path), graph)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_fields_that_share_memory_are_saved(tmp_path):
    ones = torch.ones(100)
    graph = small_graph(row_bias=ones[: small_graph().layout.n_nodes])
    graph = replace(graph, error_share=graph.row_bias)
    save_graph(graph, tmp_path / "a")
    assert_same_graph(load_graph(tmp_path / "a"), graph)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "format 'other'"),
        ({"tokens": ["a"]}, "tokens or targets that do not fit"),
        ({"targets": []}, "tokens or targets that do not fit"),
        ({"targets": [{"token": "a"}]}, "a target "),
        ({"layout": {"n_layers": 3}}, "a header that does not fit"),
        ({"layout": {"n_layers": 2, "n_pos": 4, "n_targets": 2}}, "a layout that does not fit 30 nodes"),
        ({"text": None, "tokens": None}, "a text or a number of the wrong type"),
    ],
)
def test_other_versions_and_damaged_headers_are_refused(tmp_path, changes, found):
    path = tmp_path / "graph"
    save_graph(small_graph(), path)
    with own.safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["graph"])
    save_file(load_file(path), path, metadata={"graph": json.dumps(header | changes)})
    with pytest.raises(ArtifactError, match=f"graph: found .*{found}.*; expected a tracer graph, version 1"):
        load_graph(path)


@pytest.mark.parametrize("name", ["edge_target", "influence", "token_ids"])
def test_tensors_that_do_not_fit_are_refused(tmp_path, name):
    path = tmp_path / "graph"
    save_graph(small_graph(), path)
    with own.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    save_file(tensors | {name: tensors[name][:-1].clone()}, path, metadata=metadata)
    with pytest.raises(ArtifactError, match=f"{name} of shape|that do not fit"):
        load_graph(path)
    save_file({key: value for key, value in tensors.items() if key != name}, path, metadata=metadata)
    with pytest.raises(ArtifactError, match="found tensors"):
        load_graph(path)


def test_an_edge_of_no_node_is_refused(tmp_path):
    graph = small_graph()
    save_graph(replace(graph, edge_source=torch.full_like(graph.edge_source, graph.layout.n_nodes)), tmp_path / "graph")
    with pytest.raises(ArtifactError, match="edges that do not fit"):
        load_graph(tmp_path / "graph")


def test_foreign_truncated_and_missing_files_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no such file"):
        load_graph(tmp_path / "absent")
    save_file({"W": torch.ones(1)}, tmp_path / "weights")
    with pytest.raises(ArtifactError, match="format None"):
        load_graph(tmp_path / "weights")
    save_graph(small_graph(), tmp_path / "graph")
    (tmp_path / "graph").write_bytes((tmp_path / "graph").read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="no whole safetensors file"):
        load_graph(tmp_path / "graph")


def rewritten(path, header=None, **tensors):
    """The file with some of its tensors and entries of its header in another way."""
    with own.safe_open(path, framework="pt") as file:
        old = json.loads(file.metadata()["graph"])
    new = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file(load_file(path) | new, path, metadata={"graph": json.dumps(old | (header or {}))})
    return path


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda old: {"layout__features": old["layout.features"] * 9}, "features outside 3 layers and 4 positions"),
        (lambda old: {"layout__features": old["layout.features"].flip(0)}, "features twice or out of order"),
        (lambda old: {"layout__features": old["layout.features"].int()}, "features of shape .* and torch.int32"),
        (lambda old: {"edge_target": old["edge_source"], "edge_source": old["edge_target"]}, "lead to a higher layer"),
        (lambda old: {"edge_weight": old["edge_weight"] * math.nan}, "edges that are no numbers"),
        (lambda old: {"edge_weight": old["edge_weight"].int()}, "edge_weight of shape .* and torch.int32"),
        (lambda old: {"node_mask": old["node_mask"].float()}, "node_mask of shape .* and torch.float32"),
        (lambda old: {"token_ids": old["token_ids"].float()}, "token_ids of shape .* and torch.float32"),
        (lambda old: {"edge_source": old["edge_source"].double()}, "edge_source of shape .* and torch.float64"),
    ],
)
def test_tensors_that_make_no_graph_are_refused(tmp_path, change, found):
    save_graph(small_graph(), tmp_path / "graph")
    path = rewritten(tmp_path / "graph", **{
        name: tensor.contiguous() for name, tensor in change(load_file(tmp_path / "graph")).items()
    })  # fmt: skip
    with pytest.raises(ArtifactError, match=f"graph: found .*{found}"):
        load_graph(path)


TARGET = {"token": "a", "token_id": 1, "pos": 0, "weight": 0.5, "logit": 1.0}


@pytest.mark.parametrize(
    "header",
    [
        {"tokens": [1, 2, 3, 4]},
        {"tokens": "abcd"},
        {"text": 3},
        {"uncovered_influence": "0"},
        {"n_near_cut": 0.5},
        *({"targets": [TARGET, TARGET | wrong]} for wrong in (
            {"weight": "abc"}, {"token": None}, {"token_id": "1"}, {"token_id": True}, {"pos": 4}, {"pos": 0.0},
        )),
    ],
)  # fmt: skip
def test_texts_targets_and_numbers_of_the_wrong_type_are_refused(tmp_path, header):
    save_graph(small_graph(), tmp_path / "graph")
    with pytest.raises(ArtifactError, match="a text or a number of the wrong type|a target "):
        load_graph(rewritten(tmp_path / "graph", header))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["layout", "text", "tokens", "targets", "uncovered_influence"]), ANYTHING))
def test_a_damaged_header_is_refused_or_makes_a_graph(tmp_path_factory, header):
    path = tmp_path_factory.mktemp("own") / "graph"
    save_graph(small_graph(), path)
    try:
        found = load_graph(rewritten(path, header))
    except ArtifactError:
        return
    assert found.layout.n_nodes == small_graph().layout.n_nodes
    assert isinstance(found.text, str)
