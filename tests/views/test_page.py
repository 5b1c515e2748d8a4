"""The run page as text: structure, escaping, and figures that equal the tables."""

import base64
import hashlib
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.views.parsed_page import Element, figures, parse_page
from tracer.corpus.tokens import visible
from tracer.errors import ArtifactError
from tracer.tables.database import connect, query
from tracer.views.page import render_page, write_page


@pytest.fixture(scope="module")
def page(finished_run: Path) -> Element:
    return parse_page(render_page(finished_run))


def body_rows(page: Element, name: str) -> list[Element]:
    (body,) = page.by_id(name).all("tbody")
    return body.all("tr")


def assert_figures(rows: list[Element], database: Path, sql: str) -> None:
    wanted = query(database, sql).to_dicts()
    assert len(rows) == len(wanted) > 0
    for row, expected in zip(rows, wanted, strict=True):
        assert figures(row) == pytest.approx(expected)


def test_header_figures_equal_the_tables(page: Element, finished_run: Path):
    tiles = {
        tile.all("dt")[0].text: tile.all("data")[0].attributes["value"] for tile in page.by_id("figures").all("div")
    }
    wanted = query(
        finished_run,
        """
        SELECT
            (SELECT count(*) FROM prompts) AS "Prompts", (SELECT count(*) FROM graphs) AS "Graphs",
            (SELECT count(*) FROM failures) AS "Failures", (SELECT seconds FROM runs) AS "Time",
            (SELECT avg(replacement_score) FROM graphs) AS "Mean replacement",
            (SELECT avg(completeness_score) FROM graphs) AS "Mean completeness",
            (SELECT avg(n_feature_nodes) FROM graphs) AS "Features per graph",
            (SELECT avg(is_correct::INT) FROM prompts) AS "Answers right"
        """,
    ).row(0, named=True)
    assert {name: float(value) for name, value in tiles.items()} == pytest.approx(wanted)


@pytest.mark.parametrize(("coverage", "is_said"), [(0.95, True), (1.0, False)])
def test_the_bias_of_the_means_is_said_where_coverage_leaves_rows_out(
    coverage: float, is_said: bool, finished_run: Path, tmp_path: Path
):
    database = tmp_path / "results.duckdb"
    shutil.copy(finished_run, database)
    with connect(database, read_only=False) as connection:
        connection.execute("UPDATE graphs SET uncovered_influence = ?", [1 - coverage])
    note = parse_page(render_page(database)).by_id("figures-note")
    assert ("nodes whose row was not computed count as free of error" in note.text) == is_said
    values = [float(element.attributes["value"] or "nan") for element in note.all("data")]
    assert (coverage in values) == is_said


def test_task_figures_equal_the_tables(page: Element, finished_run: Path):
    sql = """
        SELECT count(DISTINCT p.prompt_id) AS prompts, count(*) AS graphs, avg(n_feature_nodes) AS features,
            avg(is_correct::INT) AS "right",
            avg(replacement_score) AS replacement, avg(completeness_score) AS completeness
        FROM prompts p JOIN graphs g ON p.prompt_id = g.prompt_id GROUP BY task ORDER BY task
    """
    assert_figures(body_rows(page, "tasks"), finished_run, sql)


def test_feature_figures_equal_the_tables(page: Element, finished_run: Path):
    sql = """
        SELECT support AS graphs, graph_frequency AS "of all", influence_mean AS influence,
            activation_frequency AS "fires at"
        FROM features ORDER BY support DESC, influence_sum DESC, layer, feature LIMIT 15
    """
    assert_figures(body_rows(page, "features"), finished_run, sql)


@pytest.mark.parametrize("run", ["finished_run", "stratified_run"])
def test_pair_figures_equal_the_tables_and_are_the_stratified_ones_where_there_are_strata(
    run: str, request: pytest.FixtureRequest
):
    database = request.getfixturevalue(run)
    suffix = "_stratified" if run == "stratified_run" else ""
    sql = f"""
        SELECT support, expected{suffix} AS expected, lift{suffix} AS lift, q_above{suffix} AS q FROM cooccurrence
        WHERE q_above{suffix} <= 0.05
        ORDER BY q_above{suffix}, lift{suffix} DESC, support DESC, layer_a, feature_a, layer_b, feature_b LIMIT 15
    """
    assert_figures(body_rows(parse_page(render_page(database)), "pairs"), database, sql)


def test_edge_figures_equal_the_tables(page: Element, finished_run: Path):
    sql = """
        SELECT support, weight_mean AS weight, weight_sd AS sd, sign_agreement AS "same sign"
        FROM edge_stats ORDER BY edge_score_sum DESC LIMIT 15
    """
    assert_figures(body_rows(page, "edges"), finished_run, sql)


def test_layer_figures_equal_the_tables(page: Element, finished_run: Path):
    sql = """
        SELECT support AS graphs, n_features AS "distinct features", n_nodes AS "feature nodes",
            influence_mean AS "influence of features", error_influence_mean AS "influence of errors"
        FROM components WHERE kind = 'mlp' ORDER BY layer
    """
    assert_figures(body_rows(page, "layers"), finished_run, sql)


def test_every_figure_shown_is_its_exact_value_rounded(page: Element):
    shown = [(element.text, float(element.attributes["value"] or "nan")) for element in page.all("data")]
    assert len(shown) > 100
    for text, value in shown:
        if not (match := re.fullmatch(r"(−?[\d,]+(?:\.(\d+))?)( %)?", text)):
            assert re.fullmatch(r"[<>] .*|.*e−?\d+|.* (s|min)", text), text
            continue
        step = 10.0 ** -len(match[2] or "") / (100 if match[3] else 1)
        written = float(match[1].replace("−", "-").replace(",", "")) / (100 if match[3] else 1)
        assert abs(written - value) <= 0.5001 * step


def test_cards_show_the_distinct_strongest_windows_with_white_space_visible(page: Element, finished_run: Path):
    card = page.by_id("cards").all("article")[0]
    layer, feature = query(
        finished_run, "SELECT layer, feature FROM features ORDER BY influence_sum DESC, layer, feature LIMIT 1"
    ).row(0)
    assert card.all("h3")[0].text.startswith(f"L{layer}/{feature} ")
    examples = query(
        finished_run, f"SELECT * FROM examples WHERE layer = {layer} AND feature = {feature} ORDER BY rank"
    ).unique("window_tokens", keep="first", maintain_order=True)
    windows = [
        element
        for item in card.all("li")
        for element in item.all("span")
        if element.attributes.get("class") == "tokens"
    ]
    wanted = [" ".join(visible(token) for token in tokens) for tokens in examples["window_tokens"][: len(windows)]]
    assert [window.text for window in windows] == wanted
    activations = [float(item.all("data")[0].attributes["value"] or "nan") for item in card.all("li")]
    assert activations == examples["activation"][: len(windows)].to_list()


def test_texts_of_the_corpus_stay_texts(hostile_run: Path):
    document = parse_page(render_page(hostile_run))
    assert len(document.all("script")) == 1
    assert not document.all("img")
    assert not [name for element in document.walk() for name in element.attributes if name.startswith("on")]
    title = document.all("title")[0].text
    assert title.startswith("</title></script><script>alert('x')</script>")
    assert "⏎" in document.by_id("graph-picture").text


def test_nothing_in_the_page_points_outside_it_but_a_link_to_follow(hostile_run: Path):
    document = parse_page(render_page(hostile_run))
    for element in document.walk():
        for name in ("src", "href", "data", "action", "xlink:href", "srcset", "poster"):
            value = element.attributes.get(name)
            if (element.tag, name) == ("a", "href") and value.startswith("https://www.neuronpedia.org/quick-list/?"):
                continue
            assert value is None or value.startswith(("#", "data:")), (element.tag, name, value)
    (style,) = document.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_the_content_policy_allows_the_pages_own_script_and_no_connection(page: Element):
    (policy,) = (meta.attributes["content"] for meta in page.all("meta") if "http-equiv" in meta.attributes)
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256("".join(map(str, script.parts)).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_headings_ids_and_names_serve_readers_who_do_not_see(page: Element):
    assert page.all("html")[0].attributes["lang"] == "en"
    levels = [int(element.tag[1]) for element in page.walk() if re.fullmatch(r"h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    for element in page.walk():
        for name in (element.attributes.get("aria-labelledby") or "").split():
            assert name in ids
        if element.attributes.get("role") in ("img", "region"):
            assert {"aria-label", "aria-labelledby"} & set(element.attributes)


def test_a_run_without_graphs_still_has_a_page_with_its_failures(empty_run: Path):
    document = parse_page(render_page(empty_run))
    assert len(body_rows(document, "failure-rows")) == 1
    assert "graph-picture" not in [element.attributes.get("id") for element in document.walk()]


def test_the_page_is_written_whole_in_a_folder_made_for_it_and_twice_the_same(finished_run: Path, tmp_path: Path):
    target = tmp_path / "new" / "page.html"
    write_page(finished_run, target)
    first = target.read_text(encoding="utf-8")
    write_page(finished_run, target)
    assert target.read_text(encoding="utf-8") == first
    assert [file.name for file in target.parent.iterdir()] == ["page.html"]


def test_an_absent_database_leaves_no_page_behind(tmp_path: Path):
    with pytest.raises(ArtifactError):
        write_page(tmp_path / "results.duckdb", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_the_features_shown_are_linked_as_a_list_where_their_source_is_known(finished_run: Path) -> None:
    page = render_page(finished_run)
    assert page.count("https://www.neuronpedia.org/quick-list/?name=") == 1
