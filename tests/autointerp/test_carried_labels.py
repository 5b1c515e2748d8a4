"""Labels of a language model go wherever labels go: both exporters, page, terminal, notebook; as text, never markup."""

import gzip
import json
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tests.views.exports.tiny_settings import SETTINGS
from tests.views.parsed_page import parse_page
from tracer.autointerp.given import read_explanations
from tracer.cli import app
from tracer.errors import DataError
from tracer.run.labelling import import_labels, label_run
from tracer.tables.database import connect, query
from tracer.tables.label_writing import create_label_tables
from tracer.views.exports.neuronpedia import export_neuronpedia
from tracer.views.exports.neuronpedia_reading import read_neuronpedia
from tracer.views.exports.neuronpedia_settings import ExplanationNames
from tracer.views.exports.run_graphs import export_for_viewer
from tracer.views.results.opening import open_results
from tracer.views.summary import print_summary, summarise

CURRENT = "SELECT layer, feature, label FROM labels WHERE target_kind = 'feature'"
ALABAMA = """
SELECT graph_id FROM nodes JOIN graphs USING (graph_id) JOIN prompts USING (prompt_id)
WHERE (layer, feature) = (0, 5) AND nodes.kind = 'feature' GROUP BY graph_id ORDER BY sum(influence) DESC LIMIT 2
"""


def test_captions_and_supernodes_of_exported_graphs_are_the_labels(labelled_run: Path, tmp_path: Path) -> None:
    database = labelled_run / "results.duckdb"
    graph_ids = query(database, ALABAMA)["graph_id"].to_list()
    export_for_viewer(database, tmp_path / "shown", graph_ids=graph_ids)
    labels = {(layer, feature): label for layer, feature, label in query(database, CURRENT).iter_rows()}
    groups = query(database, "SELECT label FROM labels WHERE target_kind = 'group'")["label"]
    assert labels[0, 5].startswith("unit L0/5 <script>")
    for path in (path for path in (tmp_path / "shown").glob("*.json") if path.stem != "graph-metadata"):
        graph = json.loads(path.read_text(encoding="utf-8"))
        layers = {node["node_id"]: node for node in graph["nodes"]}
        features = [node_id for node_id in layers if layers[node_id]["feature_type"] == "cross layer transcoder"]
        captions = {tuple(map(int, node_id.split("_")[:2])): layers[node_id]["clerp"] for node_id in features}
        assert captions[0, 5] == labels[0, 5]
        assert all(caption == labels.get(key, caption) for key, caption in captions.items())
        named = [name for name, *_ in graph["qParams"]["supernodes"]]
        assert named
        assert set(named) <= set(groups)
        members = [node_id for _, *node_ids in graph["qParams"]["supernodes"] for node_id in node_ids]
        assert len(members) == len(set(members)) > 0
        assert set(members) <= set(features)


def test_neuronpedia_explanations_are_the_labels_of_every_method_that_has_a_name(
    labelled_run: Path, tmp_path: Path
) -> None:
    database, names = labelled_run / "results.duckdb", ("llm", "llm_deep", "rule")
    types = {name: ExplanationNames(type_name=f"tracer_{name}", model_name=None) for name in names}
    export_neuronpedia(database, tmp_path / "out", SETTINGS.model_copy(update={"explanations": types}))
    lines = [line for source in read_neuronpedia(tmp_path / "out") for line in source.explanations()]
    found = {(line.typeName, int(line.layer.split("-")[0]), int(line.index)): line.description for line in lines}
    rows = query(
        database,
        "SELECT 'tracer_' || method, layer, feature, label FROM all_labels JOIN features USING (layer, feature) "
        "WHERE target_kind = 'feature' AND method IN ('llm', 'llm_deep', 'rule') AND n_firings > 0",
    ).rows()
    assert len(lines) == len(rows) > 1_000
    assert found == {row[:3]: row[3] for row in rows}


def test_a_label_is_text_on_the_page_in_the_terminal_in_a_notebook_and_in_a_figure(labelled_run: Path) -> None:
    database = labelled_run / "results.duckdb"
    page = parse_page((labelled_run / "page.html").read_text(encoding="utf-8"))
    assert len(page.all("script")) == 1
    assert "<script>alert(1)</script> [red]$" in page.text
    console = Console(record=True, width=300, force_terminal=True, file=(labelled_run.parent / "shown").open("w"))
    print_summary(summarise(database), console)
    printed = console.export_text()
    assert "<script>alert(1)</script> [red]" in printed
    labels = query(database, "SELECT label, description, provenance FROM all_labels")
    texts = [text for row in labels.iter_rows() for text in row]
    assert all(text is None or text.isprintable() for text in texts)
    shown = labels.filter(pl.col("label").str.contains("<script>"))
    assert shown.height >= 2
    assert "<script>" not in shown._repr_html_()
    with open_results(labelled_run) as results:
        prompt_id = query(database, ALABAMA.replace("graph_id FROM", "prompt_id FROM").replace(
            "GROUP BY graph_id", "GROUP BY prompt_id"))["prompt_id"][0]  # fmt: skip
        figure = results.plot.graph(prompt_id)
        figure.canvas.draw()
        plt.close(figure)


def test_a_person_has_the_last_word_and_what_was_known_stays_through_a_new_aggregation(
    labelled_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(labelled_run, run)
    group = query(run / "results.duckdb", "SELECT target_id FROM labels WHERE target_kind = 'group'")["target_id"][0]
    for target, text in (("L0/5", "says Alabama\x1b[31m"), (group, "my group")):
        done = CliRunner().invoke(app, ["relabel", str(run), target, text, "--by", "Ada\x1b", "--description", "sure"])
        assert done.exit_code == 0, done.output
    before = query(run / "results.duckdb", "SELECT count(*) FROM all_labels").item()

    def check() -> None:
        rows = query(run / "results.duckdb", "SELECT target_id, label, method, provenance FROM labels").rows()
        said = {target: rest for target, *rest in rows}
        assert said["L0/5"] == ["says Alabama [31m", "person", "edited by Ada"]
        assert said[group][:2] == ["my group", "person"]
        methods = query(run / "results.duckdb", "SELECT method FROM all_labels WHERE target_id = 'L0/5'")["method"]
        assert {"person", "llm", "llm_deep", "rule"} <= set(methods)

    check()
    with connect(run / "results.duckdb", read_only=False) as connection:
        create_label_tables(connection)  # as `tracer aggregate` leaves them
    label_run(run, console=Console(quiet=True))
    check()
    n_of_rules = query(labelled_run / "results.duckdb", "SELECT count(*) FROM all_labels WHERE method = 'rule_harvest'")
    assert query(run / "results.duckdb", "SELECT count(*) FROM all_labels").item() == before - n_of_rules.item()
    scores = "SELECT count(*) FROM label_scores"
    assert query(run / "results.duckdb", scores).item() == query(labelled_run / "results.duckdb", scores).item() > 0


def test_a_label_of_nothing_and_one_too_long_are_refused(labelled_run: Path) -> None:
    refused = [
        ("L9/5", "x", "nothing of that name"),
        ("L0/5", "x" * 81, "81 characters"),
        ("L0/5", "\x07\x1b", "0 char"),
    ]
    for target, text, word in refused:
        done = CliRunner().invoke(app, ["relabel", str(labelled_run), target, text])
        assert isinstance(done.exception, DataError)
        assert word in str(done.exception)


def test_imported_explanations_are_kept_and_not_paid_for_again(labelled_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(labelled_run, run)
    folder = tmp_path / "0-demo" / "explanations"
    folder.mkdir(parents=True)
    lines = [
        {"modelId": "m", "layer": "0-demo", "index": str(index), "description": f"about {index} " * 12, "id": "x",
         "typeName": "oai_token-act-pair", "explanationModelName": "gpt-x", "createdAt": "2024-05-01T00:00:00Z",
         "embedding": [0.5], "scoreV1": None}
        for index in (2, 4, 5)
    ]  # fmt: skip
    content = "\n".join(json.dumps(line) for line in [*lines, lines[0]])
    (folder / "batch-0.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    assert import_labels(run, tmp_path / "0-demo", Console(quiet=True)) == 3
    rows = query(
        run / "results.duckdb",
        "SELECT feature, label, description, model, is_current FROM all_labels "
        "WHERE starts_with(method, 'neuronpedia') ORDER BY feature",
    ).rows()
    assert [row[0] for row in rows] == [2, 4, 5]
    assert all(len(label) == 80 and label.endswith("…") for _, label, *_ in rows)
    assert [row[4] for row in rows][2] is False  # the label settled from drafts is newer and better founded
    assert {row[3] for row in rows} == {"gpt-x"}
    hostile = lines[1] | {
        "typeName": "a\x1b[2Jb",
        "explanationModelName": "g\u202e\n",
        "modelId": "\x07m",
        "layer": "0-\x9b",
    }
    (folder / "batch-2.jsonl").write_text("\n".join(map(json.dumps, [hostile, lines[2] | {"description": "\x07 \n"}])))
    cleaned = list(read_explanations(folder / "batch-2.jsonl", 4))
    assert [(row["method"], row["model"]) for row in cleaned] == [("neuronpedia:a [2Jb", "g")]
    assert all(text.isprintable() for text in cleaned[0].values() if isinstance(text, str))
    (folder / "batch-2.jsonl").unlink()
    (folder / "batch-1.jsonl").write_text(json.dumps(lines[0] | {"layer": "9-demo"}), encoding="utf-8")
    with pytest.raises(DataError, match="feature of 4 layers"):
        list(read_explanations(tmp_path / "0-demo", 4))
    with pytest.raises(DataError, match="no explanations"):
        list(read_explanations(run, 4))
