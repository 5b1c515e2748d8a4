"""The page of a feature as text: structure, escaping, and figures that equal the tables; its command."""

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.tables.tiny_harvest import DEAD, DENSE
from tests.views.conftest import HOSTILE
from tests.views.parsed_page import Element, figures, parse_page
from tracer.corpus.tokens import visible
from tracer.errors import DataError
from tracer.tables.database import ask, query
from tracer.tables.joining import connect_harvest
from tracer.views.feature_page import render_feature_page, write_feature_page, write_feature_pages
from tracer.views.results.harvest import Harvest

FEATURE = (0, 10)


@pytest.fixture(scope="module")
def page(finished_harvest: Path, finished_run: Path) -> Element:
    return parse_page(render_feature_page(finished_harvest, *FEATURE, run=finished_run))


def body_rows(page: Element, name: str) -> list[Element]:
    (body,) = page.by_id(name).all("tbody")
    return body.all("tr")


def tiles(page: Element) -> dict[str, str | None]:
    return {
        tile.all("dt")[0].text: tile.all("data")[0].attributes["value"] for tile in page.by_id("figures").all("div")
    }


def test_header_figures_equal_both_tables(page: Element, finished_harvest: Path, finished_run: Path) -> None:
    with connect_harvest(finished_harvest, finished_run) as connection:
        of_harvest = Harvest(connection).feature(*FEATURE)
    of_run = query(
        finished_run,
        f"""SELECT *, (SELECT 1 + count(*) FROM features WHERE influence_sum > f.influence_sum) AS place
        FROM features AS f WHERE layer = {FEATURE[0]} AND feature = {FEATURE[1]}""",
    ).row(0, named=True)
    assert {name: float(value or "nan") for name, value in tiles(page).items()} == pytest.approx({
        "Fires at": of_harvest["activation_frequency"],
        "Of documents": of_harvest["document_frequency"],
        "Mean activation": of_harvest["activation_mean"],
        "Largest activation": of_harvest["activation_max"],
        "In graphs": of_run["support"],
        "Of all graphs": of_run["graph_frequency"],
        "Mean influence": of_run["influence_mean"],
        "Place by influence": of_run["place"],
    })  # fmt: skip
    label = query(finished_run, f"SELECT label FROM labels WHERE layer = {FEATURE[0]} AND feature = {FEATURE[1]}")
    assert page.all("h1")[0].text == f"L{FEATURE[0]}/{FEATURE[1]} {label['label'][0]}"


def test_windows_tokens_and_logits_equal_the_tables(page: Element, finished_harvest: Path) -> None:
    with connect_harvest(finished_harvest) as connection:
        harvest = Harvest(connection)
        examples, tokens = harvest.examples(*FEATURE), harvest.tokens(*FEATURE)
        neighbours, row = harvest.neighbours(*FEATURE), harvest.feature(*FEATURE)
        coactive = {grain: harvest.coactive(*FEATURE, grain) for grain in ("token", "document")}
    windows = page.by_id("top").all("li")
    assert len(windows) == examples.height > 0
    for window, example in zip(windows, examples.iter_rows(named=True), strict=True):
        assert float(window.all("data")[0].attributes["value"] or "nan") == example["activation"]
        shown = [span.text for span in window.all("span") if "token" in (span.attributes.get("class") or "").split()]
        assert shown == [visible(token) for token in example["window_tokens"]]
        (peak,) = (span for span in window.all("span") if "peak" in (span.attributes.get("class") or "").split())
        assert peak.text == visible(example["token"])
    listed = tokens.filter(pl.col("n_at") > 0).head(12)
    for shown, expected in zip(body_rows(page, "tokens"), listed.iter_rows(named=True), strict=True):
        assert figures(shown) == pytest.approx({
            "firings": expected["n_at"],
            "of its firings": expected["share_of_firings"],
            "of the token": expected["share_of_token"],
        })  # fmt: skip
    logits = [float(data.attributes["value"] or "nan") for data in page.by_id("logits").all("data")]
    assert logits == row["top_token_logits"][:10] + row["bottom_token_logits"][:10]
    assert len(body_rows(page, "neighbours")) == neighbours.height
    n_coactive = len(page.by_id("coactive").all("tr")) - len(page.by_id("coactive").all("thead"))
    assert n_coactive == sum(min(6, frame.height) for frame in coactive.values()) > 0
    bars = page.by_id("histogram").all("rect")
    n = sum(int(re.match(r"\d+", bar.all("title")[0].text).group()) for bar in bars)  # type: ignore[union-attr]
    assert n == row["n_firings"]


def test_circuit_figures_equal_the_tables(page: Element, finished_run: Path) -> None:
    sql = f"""
        SELECT support AS "hold it", n_graphs AS "all", frequency AS share, influence_mean AS influence
        FROM feature_frequency WHERE by_column = 'task' AND layer = {FEATURE[0]} AND feature = {FEATURE[1]}
        ORDER BY frequency DESC, support DESC, by_value
    """
    wanted = query(finished_run, sql).to_dicts()
    assert wanted
    for row, expected in zip(body_rows(page, "by-value"), wanted, strict=True):
        assert figures(row) == pytest.approx(expected)
    edges = query(
        finished_run,
        f"""SELECT support AS graphs, weight_mean AS weight FROM edge_stats
        WHERE target_kind = 'feature' AND target_layer = {FEATURE[0]} AND target_feature = {FEATURE[1]}
        ORDER BY edge_score_sum DESC, source_kind, source_layer, source_feature LIMIT 8""",
    ).to_dicts()
    into = page.by_id("circuits").all("table")[1]
    for row, expected in zip(into.all("tbody")[0].all("tr"), edges, strict=True):
        assert figures(row) == pytest.approx(expected)


def test_a_page_without_a_run_says_nothing_of_circuits(finished_harvest: Path) -> None:
    text = render_feature_page(finished_harvest, *FEATURE)
    assert "In graphs" not in text
    assert "circuits-heading" not in text
    parse_page(text)


def test_dead_and_dense_features_are_said_to_be_so(finished_harvest: Path, finished_run: Path) -> None:
    dead = parse_page(render_feature_page(finished_harvest, *DEAD, run=finished_run)).text
    assert "It fires nowhere in this corpus" in dead
    assert "graphs holds it" in dead
    assert "dense" in parse_page(render_feature_page(finished_harvest, *DENSE)).text
    with pytest.raises(DataError, match="999"):
        render_feature_page(finished_harvest, 0, 999)


def test_texts_do_not_break_out(hostile_harvest: Path, hostile_run: Path, tmp_path: Path) -> None:
    write_feature_page(hostile_harvest, *FEATURE, tmp_path / "page.html", run=hostile_run)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = parse_page(text)
    assert not page.all("script")
    assert not page.all("img")
    assert HOSTILE not in text
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", text)
    assert "alert('x')" in page.text


def test_the_command_writes_pages(
    finished_harvest: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "page.html"
    command = [sys.executable, "-m", "tracer", "feature", str(finished_harvest.parent), *map(str, FEATURE)]
    done = subprocess.run(
        [*command, "--run", str(finished_run.parent), "--out", str(target)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"written {target}" in done.stdout.replace("\n", "")
    assert target.read_text(encoding="utf-8") == render_feature_page(finished_harvest, *FEATURE, run=finished_run)
    refused = subprocess.run(
        [*command, "--out", str(tmp_path / "page.txt")], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert ".html" in refused.stderr


@pytest.mark.parametrize("has_run", [True, False])
def test_pages_of_many_features_link_to_each_other(
    finished_harvest: Path, finished_run: Path, tmp_path: Path, *, has_run: bool
) -> None:
    run = finished_run if has_run else None
    assert write_feature_pages(finished_harvest, tmp_path / "features", 7, run=run) == 7
    files = {path.name for path in (tmp_path / "features").iterdir()}
    assert len(files) == 8
    index = parse_page((tmp_path / "features" / "index.html").read_text(encoding="utf-8"))
    listed = [link.attributes["href"] for link in index.by_id("features").all("a")]
    sql = "SELECT layer, feature FROM {} ORDER BY {} DESC, layer, feature LIMIT 7"
    with connect_harvest(finished_harvest, run) as connection:
        source = ("features", "influence_sum") if has_run else ("harvest.features", "n_firings")
        expected = [f"L{layer}-{feature}.html" for layer, feature in ask(connection, sql.format(*source)).iter_rows()]
    assert listed == expected
    linked = set()
    for name in listed:
        page = parse_page((tmp_path / "features" / str(name)).read_text(encoding="utf-8"))
        linked |= {link.attributes["href"] for link in page.all("a")}
    assert linked <= files
    assert "index.html" in linked


def test_a_page_is_replaced_whole(finished_harvest: Path, tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(DataError):
        write_feature_page(finished_harvest, 0, 999, target)
    assert target.read_text(encoding="utf-8") == "old"
    write_feature_page(finished_harvest, *FEATURE, target)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
