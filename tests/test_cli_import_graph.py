"""`tracer import graph`: graphs of other tools in and out, with every option applied or refused."""

import json

import pytest
import torch

from tests.test_cli import DEMO, refusal, tracer
from tracer.attribution.attribute import attribute
from tracer.graph.formats.graph_json import read_json, to_graph_json
from tracer.graph.formats.own import load_graph, save_graph

MODEL = f"{DEMO}/language_model"
PROMPT = "the capital of the state containing Dallas is"


@pytest.fixture(scope="module")
def graph(demo_model):
    return attribute(PROMPT, demo_model)


def write_pt(graph, path, **more):
    """The graph in circuit-tracer's file of June 2025."""
    content = {
        "input_string": graph.text, "input_tokens": graph.token_ids, "adjacency_matrix": graph.adjacency(),
        "active_features": graph.layout.features, "selected_features": torch.arange(graph.layout.n_features),
        "activation_values": graph.activations, "logit_tokens": torch.tensor([graph.targets[0].token_id]),
        "logit_probabilities": torch.tensor([graph.targets[0].weight]),
    }  # fmt: skip
    torch.save(content | more, path)


@pytest.fixture
def pt_file(graph, tmp_path):
    """The graph in a file that names no transcoders."""
    write_pt(graph, tmp_path / "graph.pt")
    return tmp_path / "graph.pt"


def test_a_graph_of_circuit_tracer_becomes_one_for_viewers_and_one_of_our_own(capsys, graph, pt_file, tmp_path):
    for name, scan in (("new/graph.safetensors", ()), ("graph.json", ("--scan", "org/set"))):
        assert tracer("import", "graph", pt_file, "--model", MODEL, *scan, "-o", tmp_path / name) == 0
    n_features, n_edges = graph.layout.n_features, int(graph.adjacency().count_nonzero())
    summary = f"{n_features} features of 4 layers, 9 tokens, 1 targets, {n_edges} edges"
    written = [f"written {tmp_path / name}" for name in ("new/graph.safetensors", "graph.json")]
    assert capsys.readouterr().out.splitlines() == [summary, written[0], summary, written[1]]
    own, shown = load_graph(tmp_path / "new" / "graph.safetensors"), read_json(tmp_path / "graph.json")
    assert torch.equal(own.adjacency(), graph.adjacency())
    assert own.tokens == graph.tokens
    assert {node["node_id"] for node in shown.nodes} == {node["node_id"] for node in ids_of(graph.prune())}
    assert shown.metadata["scan"] == "org/set"


def ids_of(graph):
    from tracer.graph.formats.json_nodes import nodes_of

    return nodes_of(graph)


def test_a_pruned_graph_is_not_pruned_again(graph, tmp_path):
    pruned = graph.prune(0.9, 0.95)
    save_graph(pruned, tmp_path / "pruned.safetensors")
    one_json = ("-o", tmp_path / "one.json", "--scan", "org/set")
    assert tracer("import", "graph", tmp_path / "pruned.safetensors", *one_json) == 0
    assert tracer("import", "graph", tmp_path / "one.json", "-o", tmp_path / "two.json") == 0
    assert tracer("import", "graph", tmp_path / "two.json", "-o", tmp_path / "three.safetensors") == 0
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert two["metadata"].pop("slug") == "two"
    assert one["metadata"].pop("slug") == "one"
    assert one == two
    assert "node_threshold" not in one["metadata"]
    assert len(one["nodes"]) == int(pruned.node_mask.sum())
    assert len(load_graph(tmp_path / "three.safetensors").edge_weight) == len(pruned.edge_weight)


@pytest.mark.parametrize(
    ("scan", "shown", "listed"),
    [("org/repo//sub@v2", "org/repo//sub@v2", []), (["org/a", "org/b"], None, ["org/a", "org/b"])],
)
def test_the_transcoders_that_a_file_of_circuit_tracer_names_are_kept(scan, shown, listed, graph, tmp_path):
    pt_file = tmp_path / "graph.pt"
    write_pt(graph, pt_file, scan=scan)
    assert tracer("import", "graph", pt_file, "-o", tmp_path / "kept.json") == 0
    metadata = read_json(tmp_path / "kept.json").metadata
    assert metadata["transcoder_list"] == listed
    assert metadata["scan"] == shown or (shown is None and metadata["scan"].startswith("custom-"))
    assert tracer("import", "graph", pt_file, "-o", tmp_path / "given.json", "--scan", "org/other/sub@v3") == 0
    metadata = read_json(tmp_path / "given.json").metadata
    assert (metadata["scan"], metadata["transcoder_list"]) == ("org/other//sub@v3", [])


def test_options_are_applied_to_a_graph_of_a_viewer(graph, tmp_path):
    save_graph(graph, tmp_path / "graph.safetensors")
    places = [tmp_path / f"{name}.json" for name in ("first", "second")]
    thresholds = ("--node-threshold", 0.9, "--edge-threshold", 0.95)
    given = ("-o", places[0], "--scan", "org/set", *thresholds)
    assert tracer("import", "graph", tmp_path / "graph.safetensors", *given) == 0
    again = ("-o", places[1], "--scan", "org/other/sub@v3", "--node-threshold", 0.5)
    assert tracer("import", "graph", places[0], *again) == 0
    first, second = (read_json(place) for place in places)
    names = {node["node_id"] for node in second.nodes}
    assert names < {node["node_id"] for node in first.nodes}
    expected = first.graph().prune(0.5, 1.0)
    assert names == {node["node_id"] for node in ids_of(expected)}
    assert len(second.links) == len(expected.edge_weight)
    about = {name: second.metadata[name] for name in ("slug", "scan", "node_threshold", "pruning_settings")}
    settings = {"node_threshold": 0.5, "edge_threshold": 0.95}
    assert about == {
        "slug": "second", "scan": "org/other//sub@v3", "node_threshold": 0.5, "pruning_settings": settings,
    }  # fmt: skip


def test_a_pruned_graph_of_our_own_is_pruned_further_where_asked(graph, tmp_path):
    pruned = graph.prune(0.9, 0.95)
    save_graph(pruned, tmp_path / "pruned.safetensors")
    given = ("-o", tmp_path / "out.json", "--scan", "org/set", "--edge-threshold", 0.5)
    assert tracer("import", "graph", tmp_path / "pruned.safetensors", *given) == 0
    record = read_json(tmp_path / "out.json")
    assert len(record.links) == len(pruned.prune(1.0, 0.5).edge_weight) < len(pruned.edge_weight)
    assert record.metadata["pruning_settings"] == {"edge_threshold": 0.5}


@pytest.mark.parametrize(
    ("file", "out", "options", "message"),
    [
        ("graph.safetensors", "out.json", (), "Give it with --scan, such as --scan org/repo."),
        ("graph.safetensors", "out.json", ("--scan", ""), "Give it with --scan, such as --scan org/repo."),
        ("graph.pt", "out.json", (), "Give it with --scan, such as --scan org/repo."),
        ("graph.pt", "out.safetensors", ("--scan", "org/set"), "found --scan; expected it with .json alone"),
        ("graph.pt", "out.safetensors", ("--node-threshold", 0.5), "found --node-threshold"),
        ("graph.json", "out.safetensors", ("--edge-threshold", 0.5), "found --edge-threshold"),
        ("graph.json", "out.json", ("-m", MODEL), "found --model; expected it with a .pt file alone"),
        ("graph.safetensors", "out.safetensors", ("-m", MODEL), "found --model; expected it with a .pt file alone"),
        ("graph.pt", "what?.json", ("--scan", "org/set"), "what?.json: found a graph named 'what?'"),
    ],
)
def test_options_that_say_nothing_and_files_without_their_transcoders_are_refused(
    file, out, options, message, capsys, graph, pt_file, tmp_path
):
    save_graph(graph, tmp_path / "graph.safetensors")
    record = to_graph_json(graph, slug="graph", scan="org/set")
    record.save(tmp_path / "graph.json")
    before = {path.name for path in tmp_path.iterdir()}
    assert message in refusal(capsys, "import", "graph", tmp_path / file, "-o", tmp_path / out, *options)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_names_that_clash_are_mended_and_reported(capsys, graph, tmp_path):
    assert graph.layout.n_layers == 4
    save_graph(graph.prune(1.0, 1.0), tmp_path / "graph.safetensors")
    graph_json = ("-o", tmp_path / "graph.json", "--scan", "org/set")
    assert tracer("import", "graph", tmp_path / "graph.safetensors", *graph_json) == 0
    data = json.loads((tmp_path / "graph.json").read_text())
    error = next(node for node in data["nodes"] if node["feature_type"] == "mlp reconstruction error")
    feature = next(node for node in data["nodes"] if node["activation"] is not None and node["layer"] == "0")
    feature["node_id"], feature["jsNodeId"], feature["ctx_idx"] = error["node_id"], "0_0-0", error["ctx_idx"]
    data["links"] = []
    (tmp_path / "clash.json").write_text(json.dumps(data))
    capsys.readouterr()
    assert tracer("import", "graph", tmp_path / "clash.json", "-o", tmp_path / "mended.json") == 0
    assert f"mended: {error['node_id']}" in capsys.readouterr().out
    assert not read_json(tmp_path / "mended.json").collisions


@pytest.mark.parametrize(
    ("file", "out", "message"),
    [
        ("graph.gexf", "graph.json", "found ending .gexf; expected .pt, .json or .safetensors"),
        ("graph.pt", "other.pt", "a pickle, which tracer does not write"),
        ("absent.pt", "graph.json", "absent.pt"),
        ("evil.pt", "graph.json", "posix.system"),
        ("evil.pt", "graph.safetensors", "posix.system"),
        ("text.json", "graph.safetensors", "text.json"),
        ("text.json", "graph.json", "text.json"),
    ],
)
def test_what_is_no_graph_is_refused_and_leaves_nothing(file, out, message, capsys, pt_file, tmp_path):
    from tests.files.archives import write_checkpoint

    command = f"touch {tmp_path}/executed".encode()
    write_checkpoint(tmp_path / "evil.pt", b"cposix\nsystem\n(V" + command + b"\ntR.")
    (tmp_path / "text.json").write_text("[1, 2")
    before = {path.name for path in tmp_path.iterdir()}
    assert message in refusal(capsys, "import", "graph", tmp_path / file, "-o", tmp_path / out)
    assert {path.name for path in tmp_path.iterdir()} == before
