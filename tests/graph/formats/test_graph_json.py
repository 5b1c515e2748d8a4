"""Graph JSON: what is written, what is read, and that both are the same."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from tests.graph.formats.circuit_tracer import in_circuit_tracer, needs_circuit_tracer
from tests.graph.formats.graphs import FEATURE, TARGETS, graph_with_features, of_type, read_back, small_graph, written
from tracer import __version__
from tracer.errors import ConfigError, DataError
from tracer.graph.formats.circuit_tracer_pt import read_pt
from tracer.graph.formats.graph_json import read_json, to_graph_json, write_json
from tracer.graph.formats.groups import Group, Groups
from tracer.graph.layout import NodeKind

SCHEMA = json.loads((Path(__file__).parent / "neuronpedia_schema.json").read_text(encoding="utf-8"))
ALL = {"node_threshold": None, "edge_threshold": None}


def test_nodes_have_the_names_and_fields_of_circuit_tracer(tmp_path):
    graph = graph_with_features([[1, 2, 30]])
    data = written(tmp_path, graph, label_of=lambda layer, feature: f"label {layer}/{feature}", **ALL)
    nodes = {node["node_id"]: node for node in data["nodes"]}
    shared = {"token_prob": 0.0, "is_target_logit": False, "run_idx": 0, "reverse_ctx_idx": 0}

    def without_influence(name):
        return {key: value for key, value in nodes[name].items() if key != "influence"}

    assert without_influence("1_30_2") == shared | {
        "node_id": "1_30_2", "feature": 31 * 32 // 2 + 30, "layer": "1", "ctx_idx": 2,
        "feature_type": "cross layer transcoder", "jsNodeId": "1_30-0", "clerp": "label 1/30", "activation": 1.0,
    }  # fmt: skip
    assert without_influence("0_3_1") == shared | {
        "node_id": "0_3_1", "feature": -1, "layer": "3", "ctx_idx": 1, "feature_type": "mlp reconstruction error",
        "jsNodeId": "3_1-0", "clerp": "", "activation": None,
    }  # fmt: skip
    assert without_influence("E_2_2") == shared | {
        "node_id": "E_2_2", "feature": 2, "layer": "E", "ctx_idx": 2, "feature_type": "embedding", "jsNodeId": "E_2-2",
        "clerp": "", "activation": None,
    }  # fmt: skip
    assert without_influence("5_22605_2") == shared | {
        "node_id": "5_22605_2", "feature": 22605, "layer": "5", "ctx_idx": 2, "feature_type": "logit",
        "jsNodeId": "L_22605-2", "clerp": 'Output " Austin" (p=0.625)', "token_prob": 0.625, "is_target_logit": True,
        "activation": None,
    }  # fmt: skip
    assert len(nodes) == graph.layout.n_nodes
    assert nodes["5_22605_2"]["influence"] is None
    ordered = sorted(node["influence"] for node in data["nodes"] if node["feature_type"] != "logit")
    assert ordered[-1] == pytest.approx(1.0)
    assert ordered[0] == pytest.approx(float(graph.influence.max() / graph.influence.sum()))


def test_links_are_the_kept_edges_and_only_kept_nodes_are_there(tmp_path):
    graph = small_graph()
    data, pruned = written(tmp_path, graph, node_threshold=0.7, edge_threshold=0.9), graph.prune(0.7, 0.9)
    assert len(data["nodes"]) == int(pruned.node_mask.sum()) < graph.layout.n_nodes
    assert [link["weight"] for link in data["links"]] == sorted_weights(pruned)
    names = {node["node_id"] for node in data["nodes"]}
    assert {end for link in data["links"] for end in (link["source"], link["target"])} <= names
    assert written(tmp_path, pruned, node_threshold=0.7, edge_threshold=0.9) == data, "cut once, not twice"


def sorted_weights(graph):
    edges = zip(graph.edge_target.tolist(), graph.edge_source.tolist(), graph.edge_weight.tolist(), strict=True)
    return [weight for _, _, weight in sorted(edges, key=lambda edge: edge[:2])]


def test_the_metadata_say_prompt_generator_and_pruning_and_can_be_added_to(tmp_path):
    data = written(
        tmp_path, small_graph(), transcoder_list=["a", "b"], node_threshold=0.5, edge_threshold=0.75,
        metadata={"feature_details": {"neuronpedia_source_set": "gemmascope-transcoder-16k"}},
    )  # fmt: skip
    assert data["metadata"] == {
        "slug": "dallas", "scan": "org/set", "transcoder_list": ["a", "b"],
        "prompt_tokens": ["<s>", 'the "capital"', "\nof\t", "Texas é"], "prompt": 'the "capital"\nof\tTexas é',
        "node_threshold": 0.5, "schema_version": 1, "info": {"generator": {"name": "tracer", "version": __version__}},
        "pruning_settings": {"node_threshold": 0.5, "edge_threshold": 0.75},
        "feature_details": {"neuronpedia_source_set": "gemmascope-transcoder-16k"},
    }  # fmt: skip
    assert data["qParams"] == {"linkType": "both", "clickedId": "", "sg_pos": "", "pinnedIds": [], "supernodes": []}


@pytest.mark.parametrize("settings", [{}, ALL])
def test_the_file_meets_neuronpedias_schema(tmp_path, settings):
    Draft7Validator.check_schema(SCHEMA)
    graph = small_graph(targets=(TARGETS[0], replace(TARGETS[1], token_id=None)))
    places = [tuple(place) for place in graph.prune().layout.features.tolist()]
    data = written(tmp_path, graph, groups=Groups(groups=(Group.of_features("capitals", places[:2]),)), **settings)
    assert list(Draft7Validator(SCHEMA).iter_errors(data)) == []
    del data["nodes"][0]["clerp"]
    assert [error.json_path for error in Draft7Validator(SCHEMA).iter_errors(data)] == ["$.nodes[0]"]


def test_labels_that_were_saved_with_groups_become_captions_before_others(tmp_path):
    graph = graph_with_features([[0, 1, 2], [1, 2, 30]])
    saved = Groups(groups=(Group.of_features("both", [(1, 2, 30), (3, 0, 9)]),), labels={"1_30_2": "say Austin"})
    data = written(tmp_path, graph, groups=saved, label_of=lambda layer, _: f"l{layer}", **ALL)
    assert {node["node_id"]: node["clerp"] for node in of_type(data, FEATURE)} == {
        "0_2_1": "l0", "1_30_2": "say Austin",
    }  # fmt: skip
    assert data["qParams"]["supernodes"] == [["both", "1_30_2"]], "without the node that the graph does not have"
    assert json.loads(data["qParams"]["clerps"]) == [["1_30_2", "say Austin"]]


@given(seed=st.integers(0, 50), share=st.sampled_from([0.6, 0.9, 1.0]), double=st.booleans())
def test_json_to_graph_to_json_is_the_same(tmp_path_factory, seed, share, double):
    folder = tmp_path_factory.mktemp("json")
    graph = small_graph(seed)
    graph = replace(graph, edge_weight=graph.edge_weight.double() / 3) if double else graph
    data = written(folder, graph, node_threshold=share, edge_threshold=share, label_of=lambda layer, _: f"l{layer}")
    data["metadata"]["unknown"] = data["nodes"][0]["unknown"] = {"kept": [1]}
    record = read_back(folder, data)
    assert record.collisions == []
    assert record.with_graph(record.graph()).data == data
    assert json.loads(record.save(folder / "again.json").read_text(encoding="utf-8")) == data
    pruned = graph.prune(share, share)
    found = record.graph()
    assert found.edge_weight.tolist() == sorted_weights(pruned)
    assert [found.targets[0].token, found.targets[1].token] == [" Austin", ' "(p=']
    assert found.token_ids.tolist() == graph.token_ids.tolist()
    for kind in NodeKind:
        assert found.count(kind) == pruned.count(kind)
    is_kept = pruned.node_mask[: graph.layout.n_features]
    assert torch.equal(found.layout.features, graph.layout.features[is_kept])
    assert found.activations.tolist() == graph.activations[is_kept].tolist()


def test_a_graph_that_was_read_can_be_pruned_further_and_keeps_labels_and_influence(tmp_path):
    record = read_back(tmp_path, written(tmp_path, small_graph(), label_of=lambda layer, _: f"l{layer}", **ALL))
    smaller = record.with_graph(record.graph().prune(0.5, 0.9))
    before = {node["node_id"]: node for node in record.nodes}
    assert len(smaller.nodes) < len(record.nodes)
    assert all(node == before[node["node_id"]] for node in smaller.nodes)
    assert {"l0", "l1", "l2"} & {node["clerp"] for node in smaller.nodes}


def test_targets_that_are_no_tokens_have_names_that_do_not_clash(tmp_path):
    direction = replace(TARGETS[0], token="Austin - Dallas", token_id=None)
    graph = small_graph(targets=(direction, direction))
    data = written(tmp_path, graph)
    targets = [node for node in data["nodes"] if node["feature_type"] == "logit"]
    assert [node["node_id"] for node in targets] == ["4_2000000000_3", "4_2000000001_3"]
    assert [node["jsNodeId"] for node in targets] == ["L_2000000000-3", "L_2000000001-3"]
    found = read_back(tmp_path, data).graph().targets
    assert [(target.token, target.token_id) for target in found] == [("Austin - Dallas", None)] * 2
    twice = written(tmp_path, small_graph(targets=(TARGETS[0], TARGETS[0])))
    assert len({node["node_id"] for node in twice["nodes"]}) == len(twice["nodes"])


def test_the_listing_replaces_a_graph_of_the_same_slug_and_keeps_the_others(tmp_path):
    write_json(small_graph(), tmp_path, "one", scan="org/set")
    write_json(small_graph(), tmp_path, "two", scan="org/set")
    write_json(small_graph(), tmp_path, "one", scan="org/other", node_threshold=0.5)
    listing = json.loads((tmp_path / "graph-metadata.json").read_text(encoding="utf-8"))
    assert [(graph["slug"], graph["scan"], graph["node_threshold"]) for graph in listing["graphs"]] == [
        ("two", "org/set", 0.8), ("one", "org/other", 0.5),
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["graph-metadata.json", "one.json", "two.json"]


@pytest.mark.parametrize("content", ["{", "[]", '{"graphs": 3}', '{"graphs": [{}]}'])
def test_a_damaged_listing_is_left_alone(tmp_path, content):
    (tmp_path / "graph-metadata.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"graph-metadata\.json"):
        write_json(small_graph(), tmp_path, "one", scan="org/set")
    assert (tmp_path / "graph-metadata.json").read_text(encoding="utf-8") == content


BAD_SLUGS = (
    "", "..", ".hidden", "a/b", "a\\b", "/a", "a\0b", "a\nb", "a?b", "a#b", "a%2fb", "x" * 201, "graph-metadata", " a",
    "a:b", "-a",
)  # fmt: skip


@pytest.mark.parametrize("slug", BAD_SLUGS)
def test_slugs_that_are_no_file_names_are_refused(tmp_path, slug):
    with pytest.raises(DataError, match="expected a file name"):
        write_json(small_graph(), tmp_path, slug, scan="org/set")
    assert list(tmp_path.iterdir()) == []


def test_scans_of_several_sets_have_a_stable_name_and_none_is_refused(tmp_path):
    record = to_graph_json(small_graph(), slug="a", scan=None, transcoder_list=["org/a//l0", "org/b//l1"])
    assert record.metadata["scan"] == "custom-855657b6c77645b4"
    assert to_graph_json(small_graph(), slug="a", scan="", transcoder_list=["org/a//l0", "org/b//l1"]) == record
    for nothing in (None, ""):
        with pytest.raises(DataError, match="found no transcoders"):
            to_graph_json(small_graph(), slug="a", scan=nothing)
    with pytest.raises(ConfigError, match="threshold 1.5"):
        to_graph_json(small_graph(), slug="a", scan="s", node_threshold=1.5)


def test_an_activation_that_is_unknown_is_null(tmp_path):
    data = written(tmp_path, small_graph(activations=torch.full((12,), torch.nan)), **ALL)
    assert {node["activation"] for node in data["nodes"]} == {None}
    assert bool(read_back(tmp_path, data).graph().activations.isnan().all())


@needs_circuit_tracer
def test_circuit_tracer_writes_the_same_nodes_and_links_and_accepts_ours(tmp_path):
    code = """
import importlib
from types import SimpleNamespace
module = importlib.import_module("circuit_tracer.utils.create_graph_files")
tokenizer = SimpleNamespace(decode=lambda token: f"<{int(token)}>")
module.AutoTokenizer = SimpleNamespace(from_pretrained=lambda _: tokenizer)
graph = random_graph(2, 4, 5, 60, [(" a", 5), (" b", 7)], 50)
graph.to_pt(f"{sys.argv[1]}/graph.pt")
module.create_graph_files(graph, "theirs", sys.argv[1], node_threshold=0.8, edge_threshold=0.98)
print(json.dumps({}))
"""
    in_circuit_tracer(code, tmp_path)
    graph = read_pt(tmp_path / "graph.pt", token_text=lambda token_id: f"<{token_id}>")
    ours = json.loads(write_json(graph, tmp_path, "ours", scan="small/set").read_text(encoding="utf-8"))
    theirs = read_json(tmp_path / "theirs.json")
    assert theirs.collisions, "features of small numbers share names with errors, which both sides have to tell apart"
    by_name = {node["node_id"]: node for node in ours["nodes"]}
    assert [node["node_id"] for node in theirs.nodes] == list(by_name)
    for node in theirs.nodes:
        mine = by_name[node["node_id"]]
        assert mine | {"influence": 0} == node | {"influence": 0}
        assert mine["influence"] == (node["influence"] and pytest.approx(node["influence"], abs=1e-5))
    assert ours["links"] == theirs.links
    assert ours["metadata"].items() >= (theirs.metadata | {"slug": "ours"}).items()
    assert theirs.with_graph(theirs.graph()).data == theirs.data
    listing = json.loads((tmp_path / "graph-metadata.json").read_text(encoding="utf-8"))
    assert [entry["slug"] for entry in listing["graphs"]] == ["theirs", "ours"]
    code = """
from circuit_tracer.frontend.graph_models import Model
from circuit_tracer.frontend.utils import add_graph_metadata
model = Model.model_validate_json(open(f"{sys.argv[1]}/ours.json").read())
add_graph_metadata(model.metadata.model_dump(), sys.argv[1])
print(json.dumps(model.model_dump()))
"""
    accepted = in_circuit_tracer(code, tmp_path)
    assert (accepted["nodes"], accepted["links"], accepted["qParams"]) == (
        ours["nodes"],
        ours["links"],
        ours["qParams"],
    )
