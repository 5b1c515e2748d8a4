"""The terminal summary."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from tracer.errors import ArtifactError
from tracer.tables.database import connect, query
from tracer.views.summary import print_summary, summarise


def printed(database: Path, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_summary(summarise(database), console)
    return console.file.getvalue()


def test_totals_equal_the_tables(finished_run: Path):
    summary = summarise(finished_run)
    counts = query(
        finished_run,
        "SELECT (SELECT count(*) FROM prompts), (SELECT count(*) FROM graphs), (SELECT count(*) FROM failures), "
        "(SELECT avg(replacement_score) FROM graphs), (SELECT avg(completeness_score) FROM graphs), "
        "(SELECT avg(CASE WHEN is_correct THEN 1.0 ELSE 0.0 END) FROM prompts WHERE is_correct IS NOT NULL)",
    ).row(0)
    assert counts[:3] == (summary.n_prompts, summary.n_graphs, summary.n_failures)
    assert counts[3:] == pytest.approx((summary.replacement_mean, summary.completeness_mean, summary.accuracy))


def test_tasks_add_up_to_the_run(finished_run: Path):
    summary = summarise(finished_run)
    assert sum(task.n_graphs for task in summary.tasks) == summary.n_graphs
    assert sum(task.n_prompts for task in summary.tasks) == summary.n_prompts
    weighted = sum(task.n_graphs * task.completeness_mean for task in summary.tasks) / summary.n_graphs
    assert weighted == pytest.approx(summary.completeness_mean)


def test_lists_are_the_first_rows_of_the_tables_in_their_order(finished_run: Path):
    summary = summarise(finished_run, n_rows=5)
    features = query(finished_run, "SELECT support FROM features ORDER BY support DESC LIMIT 5")
    assert [feature.support for feature in summary.features] == features["support"].to_list()
    pairs = query(finished_run, "SELECT q_above FROM cooccurrence WHERE q_above <= 0.05 ORDER BY q_above LIMIT 5")
    assert [pair.q for pair in summary.pairs] == pairs["q_above"].to_list()
    edges = query(finished_run, "SELECT support, weight_mean FROM edge_stats ORDER BY edge_score_sum DESC LIMIT 5")
    assert [(edge.support, edge.weight_mean) for edge in summary.edges] == edges.rows()


def test_features_carry_the_label_of_the_table_and_another_labeller_goes_before_the_rules(
    finished_run: Path, tmp_path: Path
):
    feature = summarise(finished_run).features[0].ref
    where = f"WHERE layer = {feature.layer} AND feature = {feature.feature}"
    assert feature.label == query(finished_run, f"SELECT label FROM labels {where}").item()
    database = tmp_path / "results.duckdb"
    database.write_bytes(finished_run.read_bytes())
    with connect(database, read_only=False) as connection:
        replaced = "* REPLACE ('by hand' AS method, 'a hand-made label' AS label, 'by hand' AS label_id)"
        connection.execute(f"INSERT INTO all_labels SELECT {replaced} FROM labels {where}")
        connection.execute(f"UPDATE all_labels SET is_current = method = 'by hand' {where}")
    assert summarise(database).features[0].ref.label == "a hand-made label"
    assert "labels by: by hand, rule" in printed(database).lower()


def test_stratified_figures_are_used_and_named_where_the_run_has_strata(stratified_run: Path):
    summary = summarise(stratified_run)
    rows = query(stratified_run, "SELECT support, expected_stratified, lift_stratified FROM cooccurrence").rows()
    assert summary.pairs
    assert all((pair.support, pair.expected, pair.lift) in rows for pair in summary.pairs)
    assert summary.null_model == "a length-aware null, stratified by task"
    assert "stratified" not in summarise_without_strata(stratified_run.parent)


def summarise_without_strata(root: Path) -> str:
    database = root / "plain.duckdb"
    database.write_bytes((root / "results.duckdb").read_bytes())
    with connect(database, read_only=False) as connection:
        connection.execute("UPDATE cooccurrence SET expected_stratified = NULL, lift_stratified = NULL")
    return summarise(database).null_model


def test_printed_summary_fits_a_hundred_columns_and_says_that_labels_are_rules(finished_run: Path):
    text = printed(finished_run)
    body = text[: text.rindex("database")]
    assert max(map(len, body.splitlines())) <= 100
    assert "labels are rules" in text.lower()
    for expected in (
        "By task",
        "Features that recur most",
        "Pairs that co-occur",
        "Strongest recurring edges",
        "DataError",
    ):
        assert expected in text


def test_where_the_results_lie_is_printed_whole_and_the_page_only_if_it_is_there(finished_run: Path, tmp_path: Path):
    database = tmp_path / "results.duckdb"
    database.write_bytes(finished_run.read_bytes())
    assert str(database) in printed(database, width=60)
    assert "page.html" not in printed(database)
    (tmp_path / "page.html").touch()
    assert str(tmp_path / "page.html") in printed(database, width=60)


def test_texts_of_the_corpus_are_printed_as_they_are_and_never_as_markup(hostile_run: Path, tmp_path: Path):
    database = tmp_path / "results.duckdb"
    database.write_bytes(hostile_run.read_bytes())
    with connect(database, read_only=False) as connection:
        connection.execute("UPDATE all_labels SET label = '[red]on [/]'; UPDATE runs SET model = '[bold]m[/bold]'")
    text = printed(database)
    assert "[red]on [/]" in text
    assert "[bold]m[/bold]" in text


def test_a_run_without_graphs_is_summarised_without_made_up_figures(empty_run: Path):
    summary = summarise(empty_run)
    assert summary.replacement_mean is None
    assert summary.accuracy is None
    assert "replacement –" in printed(empty_run)
    assert "By task" not in printed(empty_run)


def test_an_absent_database_is_an_artifact_error(tmp_path: Path):
    with pytest.raises(ArtifactError, match="no such file"):
        summarise(tmp_path / "results.duckdb")
