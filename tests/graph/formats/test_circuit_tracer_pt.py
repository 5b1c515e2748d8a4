"""Graphs that circuit-tracer saved, and files written as it writes them, without its classes being imported."""

import math
import struct
import sys
import zipfile
from dataclasses import make_dataclass
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from tests.files.archives import write_checkpoint, write_zip
from tests.graph.formats.circuit_tracer import in_circuit_tracer, needs_circuit_tracer
from tracer.errors import DataError
from tracer.graph.formats import circuit_tracer_pt
from tracer.graph.formats.circuit_tracer_pt import pt_scan, read_pt
from tracer.graph.layout import NodeKind

N_LAYERS, N_POS, VOCAB_SIZE = 2, 3, 50
ACTIVE = torch.tensor([[0, 0, 5], [0, 2, 1], [1, 0, 4], [1, 2, 0], [1, 2, 9]])
SELECTED = torch.tensor([0, 1, 3, 4])


class LogitTarget(NamedTuple):
    token_str: str
    vocab_idx: int


@pytest.fixture
def classes(monkeypatch):
    """Stand-ins under the names of circuit-tracer's classes, for torch to write."""
    names = {
        "circuit_tracer.attribution.targets": LogitTarget,
        "circuit_tracer.utils.tl_nnsight_mapping": make_dataclass("UnifiedConfig", ["n_layers", "d_vocab", "dtype"]),
        "transformer_lens.HookedTransformerConfig": make_dataclass("HookedTransformerConfig", ["n_layers", "d_vocab"]),
    }
    for module, cls in names.items():
        for name in (module.partition(".")[0], module.rpartition(".")[0], module):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setattr(cls, "__module__", module)
        monkeypatch.setitem(sys.modules, module, sys.modules[module])
        setattr(sys.modules[module], cls.__name__, cls)
    return {cls.__name__: cls for cls in names.values()}


def matrix_of(places, n_targets=2):
    """Random edges to higher layers over features, errors, tokens and targets."""
    layers = torch.cat([
        places[:, 0], torch.arange(N_LAYERS).repeat_interleave(N_POS), torch.full((N_POS,), -1),
        torch.full((n_targets,), N_LAYERS),
    ])  # fmt: skip
    has_row = torch.zeros(len(layers), dtype=torch.bool)
    has_row[: len(places)] = has_row[-n_targets:] = True
    weights = torch.randn(len(layers), len(layers), generator=torch.Generator().manual_seed(0))
    return torch.where((layers[:, None] > layers[None]) & has_row[:, None], weights, 0.0)


def current(classes):
    """What circuit-tracer 0.5.0 saves."""
    return {
        "input_string": "a b c",
        "adjacency_matrix": matrix_of(ACTIVE[SELECTED]),
        "cfg": classes["UnifiedConfig"](N_LAYERS, VOCAB_SIZE, torch.float32),
        "active_features": ACTIVE,
        "logit_targets": [LogitTarget(" b", 7), LogitTarget("b minus c", VOCAB_SIZE + 1)],
        "logit_probabilities": torch.tensor([0.75, 0.125]),
        "vocab_size": VOCAB_SIZE,
        "input_tokens": torch.tensor([3, 1, 2]),
        "selected_features": SELECTED,
        "activation_values": torch.tensor([1.0, 2.0, 3.0, 4.0, -5.0]),
        "scan": "org/set",
    }


def saved(tmp_path, contents):
    torch.save(contents, tmp_path / "graph.pt")
    return tmp_path / "graph.pt"


def test_a_current_file_gives_its_selected_features_edges_and_targets(tmp_path, classes):
    contents = current(classes)
    graph = read_pt(saved(tmp_path, contents), token_text=lambda token_id: f"<{token_id}>")
    assert torch.equal(graph.layout.features, ACTIVE[SELECTED])
    assert (graph.layout.n_layers, graph.layout.n_pos, graph.layout.n_targets) == (N_LAYERS, N_POS, 2)
    assert torch.equal(graph.adjacency(), contents["adjacency_matrix"])
    assert graph.activations.tolist() == [1.0, 2.0, 4.0, -5.0]
    assert (graph.text, graph.tokens, graph.token_ids.tolist()) == ("a b c", ("<3>", "<1>", "<2>"), [3, 1, 2])
    assert [(one.token, one.token_id, one.pos, one.weight) for one in graph.targets] == [
        (" b", 7, 2, 0.75), ("b minus c", None, 2, 0.125),
    ]  # fmt: skip
    assert math.isnan(graph.targets[0].logit)
    assert math.isnan(graph.uncovered_influence), "one active feature was not selected"
    assert bool(graph.has_row.all() & graph.node_mask.all())


def test_influence_and_error_share_are_those_of_the_matrix(tmp_path, classes):
    contents = current(classes)
    graph = read_pt(saved(tmp_path, contents))
    normalised = contents["adjacency_matrix"].abs()
    normalised = normalised / normalised.sum(1, keepdim=True).clamp_min(1e-10)
    weights = torch.zeros(len(normalised))
    weights[-2:] = contents["logit_probabilities"]
    expected = weights @ (torch.linalg.inv(torch.eye(len(normalised)) - normalised) - torch.eye(len(normalised)))
    torch.testing.assert_close(graph.influence, expected, rtol=1e-5, atol=1e-6)
    is_error = graph.layout.is_kind(NodeKind.error)
    torch.testing.assert_close(graph.error_share, normalised[:, is_error].sum(1))
    assert graph.prune().count(NodeKind.token) == N_POS


def test_a_file_of_june_2025_is_read(tmp_path, classes):
    contents = current(classes)
    del contents["logit_targets"], contents["vocab_size"], contents["scan"]
    contents |= {
        "logit_tokens": torch.tensor([7, 8]),
        "cfg": classes["HookedTransformerConfig"](N_LAYERS, VOCAB_SIZE),
        "activation_values": contents["activation_values"][SELECTED],
    }
    graph = read_pt(saved(tmp_path, contents))
    assert [(one.token, one.token_id) for one in graph.targets] == [("7", 7), ("8", 8)]
    assert graph.tokens == ("3", "1", "2")
    assert graph.activations.tolist() == [1.0, 2.0, 4.0, -5.0]


def test_features_are_brought_into_order_with_their_edges(tmp_path, classes):
    contents, order = current(classes), torch.tensor([2, 0, 3, 1])
    ordered = read_pt(saved(tmp_path, contents))
    rows = torch.cat([order, torch.arange(4, len(contents["adjacency_matrix"]))])
    contents |= {
        "selected_features": SELECTED[order],
        "adjacency_matrix": contents["adjacency_matrix"][rows][:, rows].contiguous(),
    }
    shuffled = read_pt(saved(tmp_path, contents))
    assert torch.equal(shuffled.layout.features, ordered.layout.features)
    assert torch.equal(shuffled.adjacency(), ordered.adjacency())
    assert torch.equal(shuffled.activations, ordered.activations)
    torch.testing.assert_close(shuffled.influence, ordered.influence)


def test_a_graph_without_features_and_one_with_all_are_read(tmp_path, classes):
    contents = current(classes) | {"selected_features": SELECTED[:0], "adjacency_matrix": matrix_of(ACTIVE[:0])}
    assert read_pt(saved(tmp_path, contents)).layout.n_features == 0
    contents |= {"selected_features": torch.arange(5), "adjacency_matrix": matrix_of(ACTIVE)}
    assert read_pt(saved(tmp_path, contents)).uncovered_influence == 0.0


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"adjacency_matrix": None}, "tensors where they belong"),
        ({"adjacency_matrix": torch.zeros(16, 16)}, r"adjacency_matrix \(16, 16\)"),
        ({"adjacency_matrix": torch.zeros(18, 18)}, r"adjacency_matrix \(18, 18\)"),
        ({"adjacency_matrix": torch.ones(15 + 3, 15)}, "adjacency_matrix"),
        ({"adjacency_matrix": torch.ones(15, 15)}, "do not lead up to a feature"),
        ({"active_features": ACTIVE[:, :2].contiguous()}, "4 features selected"),
        ({"active_features": ACTIVE * 3}, "features twice or outside 2 layers"),
        ({"active_features": ACTIVE[[0, 0, 0, 0, 0]]}, "features twice"),
        ({"selected_features": torch.tensor([0, 1, 3, 9])}, "4 features selected"),
        ({"activation_values": torch.ones(3)}, "3 activation_values"),
        ({"logit_targets": [("a", 1)]}, "no list of 2 targets"),
        ({"logit_targets": [("a", 1), ("a", "b")]}, "a target that is no text"),
        ({"logit_targets": [("a", 1), ("a", 10**9000)]}, "a target that is no text"),
        ({"logit_probabilities": torch.tensor([0.5, math.inf])}, "a target that is no text"),
        ({"input_tokens": torch.tensor([1, 2])}, "2 tokens"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, classes, changes, found):
    with pytest.raises(DataError, match=rf"graph\.pt: found .*({found}).*; expected a graph of circuit-tracer"):
        read_pt(saved(tmp_path, current(classes) | changes))


@pytest.mark.parametrize(("target", "source", "value"), [(-1, 0, math.nan), (0, 0, 1.0), (5, -3, 1.0), (-3, 5, 1.0)])
def test_edges_that_lead_down_into_an_error_or_are_no_numbers_are_refused(tmp_path, classes, target, source, value):
    contents = current(classes)
    contents["adjacency_matrix"][target, source] = value
    with pytest.raises(DataError, match="edges that are no numbers or do not lead up"):
        read_pt(saved(tmp_path, contents))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="a file without input_tokens, adjacency_matrix"):
        read_pt(saved(tmp_path, {"W": torch.ones(1)}))
    with pytest.raises(DataError, match="a file without input_tokens"):
        read_pt(saved(tmp_path, [1, 2]))
    hostile = write_checkpoint(
        tmp_path / "hostile.pt", b"cposix\nsystem\n(Vtouch " + str(tmp_path).encode() + b"/x\ntR."
    )
    with pytest.raises(DataError, match=r"found posix\.system"):
        read_pt(hostile)
    assert not (tmp_path / "x").exists()


def test_the_limit_is_that_of_the_largest_tensor(tmp_path, classes):
    path = saved(tmp_path, current(classes))
    n_bytes = 15 * 15 * 4
    read_pt(path, max_bytes=n_bytes)
    with pytest.raises(DataError, match=f"tensors of {n_bytes} bytes"):
        read_pt(path, max_bytes=n_bytes - 1)


@needs_circuit_tracer
def test_a_file_that_circuit_tracer_made_gives_its_matrix_influence_and_pruning(tmp_path):
    code = """
from circuit_tracer.graph import compute_node_influence, compute_graph_scores, prune_graph
graph = random_graph(1, 3, 4, 30, [(" a", 5), ("b-c", 51)], 50)
graph.to_pt(sys.argv[1])
weights = torch.zeros(len(graph.adjacency_matrix))
weights[-2:] = graph.logit_probabilities
print(json.dumps({
    "matrix": graph.adjacency_matrix.tolist(),
    "influence": compute_node_influence(graph.adjacency_matrix, weights).tolist(),
    "features": graph.active_features[graph.selected_features].tolist(),
    "activations": graph.activation_values[graph.selected_features].tolist(),
    "scores": compute_graph_scores(graph),
    "kept": prune_graph(graph, 0.8, 0.98).node_mask.tolist(),
}))
"""
    said = in_circuit_tracer(code, tmp_path / "graph.pt")
    graph = read_pt(tmp_path / "graph.pt")
    assert torch.equal(graph.adjacency(), torch.tensor(said["matrix"]))
    torch.testing.assert_close(graph.influence, torch.tensor(said["influence"]))
    assert graph.layout.features.tolist() == said["features"]
    assert graph.activations.tolist() == said["activations"]
    assert [(one.token, one.token_id) for one in graph.targets] == [(" a", 5), ("b-c", None)]
    assert graph.prune(0.8, 0.98).node_mask.tolist() == said["kept"]
    scores = graph.scores()
    assert [scores.replacement, scores.completeness] == pytest.approx(said["scores"], rel=1e-5)


def with_pickle(path, old, new):
    """The archive with something else in its pickle."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in members if name.endswith("/data.pkl"))
    assert members[name].count(old) == 1
    return write_zip(path, members | {name: members[name].replace(old, new)})


def test_a_text_that_is_a_tree_of_shared_pairs_is_refused_without_writing_it_out(tmp_path, classes):
    text = b"X" + struct.pack("<I", 5) + b"a b c"
    pairs = b")" + b"2\x86" * 60
    path = with_pickle(saved(tmp_path, current(classes)), text, pairs)
    with pytest.raises(DataError, match=r"graph\.pt: found an input_string that is a tuple"):
        read_pt(path)
    scan = b"X" + struct.pack("<I", 7) + b"org/set"
    path = with_pickle(saved(tmp_path, current(classes)), scan, pairs)
    with pytest.raises(DataError, match=r"graph\.pt: found scan \(.{,98}; expected"):
        pt_scan(path)


@pytest.mark.parametrize("name", ["logit_probabilities", "adjacency_matrix", "input_tokens", "logit_tokens"])
def test_tensors_of_more_entries_than_the_file_holds_are_refused(tmp_path, classes, name):
    contents = current(classes) | {name: torch.tensor([0.6]).expand(10**9)}
    with pytest.raises(DataError, match=f"found {name} of 4,000,000,000 bytes, of which the file holds 4;"):
        read_pt(saved(tmp_path, contents))


def test_tensors_that_share_a_storage_are_read(tmp_path, classes):
    contents = current(classes)
    shared = torch.cat([contents["input_tokens"], contents["selected_features"]])
    contents |= {"input_tokens": shared[:3], "selected_features": shared[3:]}
    assert read_pt(saved(tmp_path, contents)).token_ids.tolist() == [3, 1, 2]


def test_a_graph_of_too_many_nodes_is_refused(tmp_path, classes, monkeypatch):
    path = saved(tmp_path, current(classes))
    monkeypatch.setattr(circuit_tracer_pt, "_MOST_NODES", 14)
    with pytest.raises(DataError, match=r"adjacency_matrix \(15, 15\)"):
        read_pt(path)


@pytest.mark.parametrize(
    ("scan", "expected"),
    [("org/repo//sub@v1", "org/repo//sub@v1"), (["org/a", "org/b"], ["org/a", "org/b"]), (None, None), ("", None),
     ([], None)],
)  # fmt: skip
def test_a_file_says_which_transcoders_made_it(tmp_path, classes, scan, expected):
    assert pt_scan(saved(tmp_path, current(classes) | {"scan": scan})) == expected


def test_a_file_that_does_not_say_it_has_no_scan_and_another_kind_of_it_is_refused(tmp_path, classes):
    contents = current(classes)
    with pytest.raises(DataError, match=r"found scan \['a', 3\]; expected a graph of circuit-tracer"):
        pt_scan(saved(tmp_path, contents | {"scan": ["a", 3]}))
    del contents["scan"]
    assert pt_scan(saved(tmp_path, contents)) is None
