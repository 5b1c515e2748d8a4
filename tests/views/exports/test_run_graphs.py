"""Graphs of a run from its tables: the same nodes and edges, with the shares of the whole graph and labels."""

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.graph.formats.circuit_tracer import in_circuit_tracer, needs_circuit_tracer
from tracer.errors import DataError
from tracer.graph.formats.graph_json import read_json
from tracer.graph.formats.groups import Group, Groups
from tracer.graph.formats.ids import cantor, feature_id
from tracer.tables.database import connect, query
from tracer.tables.quoting import literal
from tracer.views.exports.feature_files import read_files
from tracer.views.exports.feature_pack import read_pack
from tracer.views.exports.run_graphs import choose_graphs, export_for_viewer, read_run_graph, slug_of
from tracer.views.exports.scans import Scan

NODE_COLUMNS = ["node_idx", "kind", "layer", "pos", "feature", "token_id", "token", "activation"]


def rows_of(database: Path, table: str, graph_id: str, order: str):
    return query(database, f"SELECT * FROM {table} WHERE graph_id = {literal(graph_id)} ORDER BY {order}")


def test_nodes_and_edges_are_those_of_the_tables(finished_run: Path):
    for graph_id in choose_graphs(finished_run, n_best=5):
        with connect(finished_run) as connection:
            graph = read_run_graph(connection, graph_id)
        nodes = rows_of(finished_run, "nodes", graph_id, "node_idx")
        assert_frame_equal(graph.nodes().select(NODE_COLUMNS), nodes.select(NODE_COLUMNS), rel_tol=1e-6)
        edges = rows_of(finished_run, "edges", graph_id, "target_idx, source_idx")
        ends = ["target_idx", "source_idx", "weight"]
        found = graph.edges().sort("target_idx", "source_idx").select(ends)
        assert_frame_equal(found, edges.select(ends), rel_tol=1e-6)
        logits = rows_of(finished_run, "logits", graph_id, "target_idx")
        assert [target.weight for target in graph.targets] == logits["probability"].to_list()


def test_the_best_graphs_are_right_answers_and_the_most_complete(finished_run: Path):
    sql = "SELECT graph_id, is_correct, completeness_score FROM graphs JOIN prompts USING (prompt_id)"
    rows = {row["graph_id"]: row for row in query(finished_run, sql).to_dicts()}
    best = [rows[graph_id] for graph_id in choose_graphs(finished_run, n_best=len(rows))]
    ranks = [(bool(row["is_correct"]), row["completeness_score"]) for row in best]
    assert ranks == sorted(ranks, reverse=True)
    assert len(best) == len(rows) > 2


def test_prompts_are_chosen_by_id_and_no_graph_comes_twice(finished_run: Path):
    (best,) = choose_graphs(finished_run, n_best=1)
    prompt_id = query(finished_run, f"SELECT prompt_id FROM graphs WHERE graph_id = {literal(best)}").item()
    assert choose_graphs(finished_run, prompt_ids=[prompt_id, prompt_id], n_best=1) == [best]
    with pytest.raises(DataError, match="no graph of it"):
        choose_graphs(finished_run, prompt_ids=["nothing"])


@pytest.mark.parametrize(
    ("form", "given", "scan"),
    [
        ("files", None, "./graph_data/features"),
        ("pack", None, "tiny-transcoders"),
        ("pack", "org/repo/sub@v2", "org/repo//sub@v2"),
    ],
)
def test_a_folder_for_the_viewer_holds_features_and_graphs(form, given, scan, finished_run: Path, tmp_path: Path):
    graph_ids = choose_graphs(finished_run, n_best=2)
    out = tmp_path / "shown"
    done = export_for_viewer(finished_run, out, graph_ids=graph_ids, form=form, scan=given)
    listing = json.loads((out / "graph-metadata.json").read_text())
    slugs = tuple(graph.slug for graph in done.graphs)
    assert tuple(entry["slug"] for entry in listing["graphs"]) == slugs
    assert done.scan == Scan(scan, is_found=scan != "tiny-transcoders")
    assert {path.name for path in out.iterdir()} == {
        "features", "graph-metadata.json", *(f"{slug}.json" for slug in slugs),
    }  # fmt: skip
    files = list(read_files(out / "features") if form == "files" else read_pack(out))
    assert len(files) == done.features.n_features > 0
    assert {file.record.transcoder_id for file in files} == {scan}
    assert done.features.folder == out
    for slug, graph_id in zip(slugs, graph_ids, strict=True):
        record = read_json(out / f"{slug}.json")
        nodes = rows_of(finished_run, "nodes", graph_id, "node_idx")
        assert record.metadata["scan"] == scan
        assert [node["influence"] for node in record.nodes] == nodes["cumulative_influence"].to_list()
        assert len(record.links) == rows_of(finished_run, "edges", graph_id, "target_idx").height
    assert [path.name for path in tmp_path.iterdir()] == ["shown"]


def test_labels_are_captions(finished_run: Path, tmp_path: Path):
    export_for_viewer(finished_run, tmp_path / "shown", graph_ids=choose_graphs(finished_run, n_best=3))
    labels = set(query(finished_run, "SELECT label FROM labels")["label"])
    records = [read_json(path) for path in (tmp_path / "shown").glob("*-*.json") if path.stem != "graph-metadata"]
    captions = {node["clerp"] for record in records for node in record.nodes if node["feature"] >= 0} - {""}
    assert any(caption in labels for caption in captions)
    assert len(records) == 3


def test_groups_are_shown_as_far_as_a_graph_has_them(finished_run: Path, tmp_path: Path):
    (graph_id,) = choose_graphs(finished_run, n_best=1)
    nodes = rows_of(finished_run, "nodes", graph_id, "node_idx").filter(pl.col("kind") == "feature")
    first, second = nodes.select("layer", "pos", "feature").rows()[:2]
    absent = (first[0], first[1], 10**6)
    node_ids = [feature_id(*first), feature_id(*second)]
    groups = Groups(
        groups=(Group.of_features("one: 100 %", [first, absent]), Group.of_features("none", [absent])),
        pinned=(*node_ids, feature_id(*absent)), labels={str(cantor(first[0], first[2])): "mine"},
    )  # fmt: skip
    done = export_for_viewer(finished_run, tmp_path / "shown", graph_ids=[graph_id], groups=groups)
    (graph,) = done.graphs
    record = read_json(tmp_path / "shown" / f"{graph.slug}.json")
    assert record.data["qParams"]["supernodes"] == [["one: 100 %", node_ids[0]]]
    assert record.data["qParams"]["pinnedIds"] == node_ids
    assert next(node for node in record.nodes if node["node_id"] == node_ids[0])["clerp"] == "mine"
    read = Groups.from_url(f"index.html?{graph.query}", nodes=record.nodes)
    assert read.slug == graph.slug
    assert read.groups == (Group.of_features("one: 100 %", [first]),)


def test_a_graph_without_members_of_any_group_has_no_address(finished_run: Path, tmp_path: Path):
    groups = Groups(groups=(Group.of_features("none", [(0, 0, 10**6)]),))
    graph_ids = choose_graphs(finished_run, n_best=1)
    done = export_for_viewer(finished_run, tmp_path / "shown", graph_ids=graph_ids, groups=groups)
    assert [graph.query for graph in done.graphs] == [""]


def test_texts_that_try_to_break_out_name_no_other_file(hostile_run: Path, tmp_path: Path):
    done = export_for_viewer(hostile_run, tmp_path / "shown", graph_ids=choose_graphs(hostile_run, n_best=2))
    for graph in done.graphs:
        assert read_json(tmp_path / "shown" / f"{graph.slug}.json").metadata["prompt"]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("The capital of Texas is", "the-capital-of-texas-is-0123abcd"),
        ("../../etc/passwd", "etc-passwd-0123abcd"),
        ("日本", "0123abcd"),
        ("word " * 50, "word-word-word-word-word-word-word-word-0123abcd"),
    ],
)
def test_slugs_are_plain(text: str, slug: str):
    assert slug_of(text, "0123abcd4567") == slug


SERVE = """
import functools, http.server, threading, urllib.request
from circuit_tracer.frontend.graph_models import Model
from circuit_tracer.frontend.local_server import DEFAULT_FRONTEND_DIR, CircuitGraphHandler

handler = functools.partial(CircuitGraphHandler, frontend_dir=DEFAULT_FRONTEND_DIR, data_dir=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()

def get(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{path}") as answer:
        return json.load(answer)

(listed,) = get("graph_data/graph-metadata.json")["graphs"]
graph = get(f"graph_data/{listed['slug']}.json")
Model(**graph)
features = [node["feature"] for node in graph["nodes"] if node["activation"] is not None]
shown = [get(f"{graph['metadata']['scan'].removeprefix('./')}/{feature}.json")["index"] for feature in features]
print(json.dumps([features, shown]))
"""


@pytest.mark.slow
@needs_circuit_tracer
def test_circuit_tracers_server_shows_the_folder_and_its_features(finished_run: Path, tmp_path: Path):
    out, graph_ids = tmp_path / "shown", choose_graphs(finished_run, n_best=1)
    export_for_viewer(finished_run, out, graph_ids=graph_ids, form="files")
    features, shown = in_circuit_tracer(SERVE, out)
    assert features == shown
    assert len(features) > 3
