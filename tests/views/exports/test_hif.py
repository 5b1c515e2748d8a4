"""The hypergraph as HIF: it fits the format, other packages read it, and it holds what the tables hold."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import xgi

from tests.test_cli import refusal, tracer
from tracer.errors import ArtifactError
from tracer.tables.database import connect, query
from tracer.views.exports.hif import export_hif

NAME = {"type": ["string", "integer"]}
ATTRIBUTES = {"type": "object"}


def records(required: list[str], **properties: Any) -> dict[str, Any]:
    """A list of records with these fields and no others."""
    common = {"weight": {"type": "number"}, "attrs": ATTRIBUTES}
    record = {"type": "object", "properties": properties | common, "required": required, "additionalProperties": False}
    return {"type": "array", "items": record}


SCHEMA = {
    "type": "object",
    "required": ["incidences"],
    "additionalProperties": False,
    "properties": {
        "network-type": {"enum": ["asc", "directed", "undirected"]},
        "metadata": {"type": "object"},
        "incidences": records(["edge", "node"], edge=NAME, node=NAME, direction={"enum": ["head", "tail"]}),
        "nodes": records(["node"], node=NAME),
        "edges": records(["edge"], edge=NAME),
    },
}
"""What HIF asks of a file."""


@pytest.fixture(params=["graphs", "sets"])
def written(request: pytest.FixtureRequest, finished_run: Path, tmp_path: Path) -> tuple[str, Path]:
    """Which hyperedges, and the file."""
    out = tmp_path / "new" / "hypergraph.json"
    summary = export_hif(finished_run, out, request.param)
    found = json.loads(out.read_text(encoding="utf-8"))
    sizes = (len(found["edges"]), len(found["nodes"]), len(found["incidences"]))
    assert sizes == (summary.n_edges, summary.n_nodes, summary.n_incidences)
    assert min(sizes) > 0
    assert list(out.parent.iterdir()) == [out]
    return request.param, out


def test_a_file_fits_the_format(written: tuple[str, Path]) -> None:
    found = json.loads(written[1].read_text(encoding="utf-8"))
    jsonschema.validate(found, SCHEMA)
    assert found["network-type"] == "undirected"
    assert found["metadata"]["hyperedges"] == written[0]
    for section, key in (("nodes", "node"), ("edges", "edge")):
        names = [record[key] for record in found[section]]
        assert len(names) == len(set(names))
        assert {record[key] for record in found["incidences"]} <= set(names)


def test_another_package_reads_the_same_hypergraph(written: tuple[str, Path], finished_run: Path) -> None:
    which, path = written
    hypergraph = xgi.read_hif(path)
    if which == "graphs":
        rows = query(finished_run, "SELECT graph_id, layer, feature FROM incidence").rows()
        expected = {name: set() for (name,) in query(finished_run, "SELECT graph_id FROM graphs").rows()}
        for graph_id, layer, feature in rows:
            expected[graph_id].add(f"L{layer}/{feature}")
        assert {edge: hypergraph.edges.members(edge) for edge in hypergraph.edges} == expected
        prompts = query(finished_run, "FROM graphs JOIN prompts USING (prompt_id)")
        for row in prompts.iter_rows(named=True):
            attributes = hypergraph.edges[row["graph_id"]]
            assert (attributes["task"], attributes["text"]) == (row["task"], row["text"])
            assert attributes["metadata"] == json.loads(row["metadata"])
        labels = query(finished_run, "SELECT 'L' || layer || '/' || feature AS node, label FROM labels")
        kept = labels.filter(pl.col("node").is_in(list(hypergraph.nodes)))
        assert kept.height == hypergraph.num_nodes
        assert all(hypergraph.nodes[node]["label"] == label for node, label in kept.iter_rows())
    else:
        sizes = query(finished_run, "SELECT granularity || '/' || hyperedge_id AS edge, size FROM hyperedges")
        assert {edge: len(hypergraph.edges.members(edge)) for edge in hypergraph.edges} == dict(sizes.iter_rows())
        assert {"feature", "component", "position"} >= {
            hypergraph.edges[edge]["granularity"] for edge in hypergraph.edges
        }


def test_influence_is_the_weight_of_an_incidence(finished_run: Path, tmp_path: Path) -> None:
    export_hif(finished_run, tmp_path / "h.json")
    found = json.loads((tmp_path / "h.json").read_text(encoding="utf-8"))["incidences"]
    expected = query(finished_run, "FROM incidence").iter_rows(named=True)
    weights = {(row["graph_id"], f"L{row['layer']}/{row['feature']}"): row["influence"] for row in expected}
    assert {(record["edge"], record["node"]): record["weight"] for record in found} == pytest.approx(weights)


def test_texts_of_any_kind_survive_and_two_exports_are_equal(hostile_run: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        export_hif(hostile_run, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    texts = query(hostile_run, "SELECT text FROM prompts")["text"].to_list()
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert {record["attrs"]["text"] for record in found["edges"]} == set(texts)


def test_numbers_that_json_does_not_have_are_left_out(finished_run: Path, tmp_path: Path) -> None:
    changed = tmp_path / "results.duckdb"
    changed.write_bytes(finished_run.read_bytes())
    with connect(changed, read_only=False) as connection:
        connection.execute("UPDATE graphs SET completeness_score = 'nan'")
    export_hif(changed, tmp_path / "h.json")
    found = json.loads((tmp_path / "h.json").read_text(encoding="utf-8"))
    assert all("completeness_score" not in record["attrs"] for record in found["edges"])


def test_a_folder_is_not_replaced_and_nothing_half_written_stays(finished_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="found a folder"):
        export_hif(finished_run, tmp_path)
    with pytest.raises(ArtifactError):
        export_hif(tmp_path / "absent.duckdb", tmp_path / "h.json")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_it(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sets.json"
    assert tracer("export", finished_run, "--format", "hif", "--which", "sets", "-o", out) == 0
    assert f"written {out}" in " ".join(capsys.readouterr().out.split())
    assert json.loads(out.read_text())["metadata"]["hyperedges"] == "sets"
    assert "--form with --format hif" in refusal(
        capsys, "export", finished_run, "--format", "hif", "--form", "pack", "-o", out
    )
    wrong = ("export", finished_run, "--format", "hif", "-o", tmp_path / "sets.txt")
    assert "found ending .txt" in refusal(capsys, *wrong)
    arguments = ("export", finished_run, "--format", "circuit-tracer", "--which", "sets", "-o", tmp_path / "pack")
    assert "--which with --format circuit-tracer" in refusal(capsys, *arguments)
