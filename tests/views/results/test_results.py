"""`tracer.open`: every kind of place, read-only, closed at the end, and refusals in words."""

from pathlib import Path

import polars as pl
import pytest

import tracer
from tests.tables.tiny_run import aggregate_prompts
from tests.views.results.naive import Naive
from tracer import Results
from tracer.errors import ArtifactError, DataError
from tracer.storage.local_store import LocalStore
from tracer.views.results import opening


def test_a_folder_and_a_file_are_opened(tiny_path: Path) -> None:
    for place in (tiny_path, str(tiny_path), tiny_path.parent):
        with tracer.open(place) as results:
            assert results.run["n_graphs"] == 60
            assert "60 graphs of tasks:tiny" in repr(results)


def test_an_object_store_is_fetched_from(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def opened(uri: str) -> LocalStore:
        asked.append(uri)
        return LocalStore(tiny_path.parent if uri.endswith("tiny") else tiny_path.parent / "absent")

    monkeypatch.setattr(opening, "open_store", opened)
    with tracer.open("s3://bucket/tiny") as results:
        assert results.run["n_graphs"] == 60
    with pytest.raises(ArtifactError, match="no such file"):
        tracer.open("s3://bucket/other")
    assert asked == ["s3://bucket/tiny", "s3://bucket/other"]


def test_what_is_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such file"):
        tracer.open(tmp_path)


def test_a_closed_file_answers_no_more(tiny_path: Path) -> None:
    results = tracer.open(tiny_path)
    results.close()
    with pytest.raises(DataError, match="query"):
        results.sql("SELECT 1 AS one")


def test_sql_takes_parameters_by_place_and_by_name(results: Results) -> None:
    assert results.sql("SELECT ? + ? AS total", [1, 2]).item() == 3
    assert results.sql("SELECT $a || $b AS text", {"a": "x", "b": "y"}).item() == "xy"
    with pytest.raises(DataError, match="does not exist"):
        results.sql("SELECT * FROM no_such_table")


def test_nothing_can_be_written(results: Results) -> None:
    with pytest.raises(DataError, match="read-only"):
        results.sql("DELETE FROM features")
    assert results.connection.execute("SELECT count(*) FROM graphs").fetchall() == [(60,)]


def test_a_table_is_given_whole_and_an_unknown_one_refused(results: Results) -> None:
    assert results.table("graphs").height == 60
    with pytest.raises(DataError, match="table 'graph'"):
        results.table("graph")


def check_activations(frame: pl.DataFrame, naive: Naive, graphs: list[str]) -> None:
    kept: dict[tuple[int, int], list[float]] = {}
    for name in graphs:
        for node in naive.graphs[name].nodes:
            if node["kind"] == "feature":
                kept.setdefault((node["layer"], node["feature"]), []).append(node["activation"])
    for layer, feature, mean, least in frame.select(
        "layer", "feature", "activation_mean", "activation_min"
    ).iter_rows():
        activations = kept[layer, feature]
        assert mean == pytest.approx(sum(activations) / len(activations))
        assert least == pytest.approx(min(activations))


def test_features_have_labels_and_dense_ones_can_be_hidden(results: Results, naive: Naive) -> None:
    every, without = results.features(), results.features(hide_dense=True)
    dense = every.filter(pl.col("is_dense"))
    assert dense.height > 0
    assert without.height == every.height - dense.height
    assert every["label"].null_count() == 0
    for task in (None, "antonym"):
        graphs = naive.of_task(task)
        frame = results.features(task)
        check_activations(frame, naive, graphs)
        assert frame["support"].to_list() == sorted(frame["support"], reverse=True)
        for layer, feature, support, n_graphs in frame.select("layer", "feature", "support", "n_graphs").iter_rows():
            assert n_graphs == len(graphs)
            assert support == sum((layer, feature) in naive.features(name)[f"MLP{layer}"] for name in graphs)


def test_a_value_or_column_that_was_not_counted_is_refused_with_those_that_were(results: Results) -> None:
    with pytest.raises(DataError, match=r"task 'antonyms': found no graph of it; expected one of: antonym, city_state"):
        results.features("antonyms")
    with pytest.raises(DataError, match="column 'state': found nothing counted by it; expected one of: split, task"):
        results.hypergraph("Texas", by_column="state")


def test_what_is_no_share_no_kind_and_no_circuit_is_refused(results: Results) -> None:
    for threshold in (1.5, -0.1, float("nan")):
        with pytest.raises(DataError, match="expected a number from 0 to 1"):
            results.circuit_at(threshold)
    with pytest.raises(DataError, match="kind 'cluster'"):
        results.circuits.list("cluster")
    with pytest.raises(DataError, match="no such circuit"):
        results.circuits.supernodes("graphs-99")
    with pytest.raises(DataError, match="expected a list of names"):
        results.unique_features("MLP0")
    with pytest.raises(DataError, match="completeness_score or replacement_score"):
        results.plot.completeness(what="score")


def test_a_run_without_graphs_says_so_and_is_drawn_empty(tmp_path: Path) -> None:
    with tracer.open(aggregate_prompts(tmp_path, [], 1)) as results:
        with pytest.raises(DataError, match="found a run without graphs"):
            results.hypergraph("antonym")
        with pytest.raises(DataError, match="no attention head in any graph"):
            results.components.roc_auc(["L0H0"], n_heads=2)
        assert results.unique_features().schema["component"] == pl.String
        assert results.plot.unique_features().get_axes()
