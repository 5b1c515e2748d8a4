"""`tracer compare` and `tracer groups --by`: what they print and write, and one message for what cannot be."""

import csv
import json

import polars as pl
import pytest

from tests.tables.tiny_run import build_tiny_run
from tests.test_cli import refusal, tiny_run, tracer
from tracer.graph.formats.groups import Group, Groups, save_groups
from tracer.tables.schema import TABLES

__all__ = ["tiny_run"]
SIDES = ("--first", "state = 'Texas'", "--second", "task = 'antonym'")
COLUMNS = [*TABLES["comparisons"].column_names(), "label_a", "label_b"]


def test_features_of_one_side_are_printed_with_their_labels(capsys, tiny_run):
    assert tracer("compare", tiny_run, *SIDES) == 0
    printed = capsys.readouterr().out
    sizes, _, heading, _, best, *_ = printed.splitlines()
    assert " graphs against " in sizes
    assert all(text in heading for text in ("label a", "first", "second", "95 %", "effect h", "family-wise p"))
    assert "label b" not in heading
    assert "/0 " in best
    assert "Texas" in printed or "Austin" in printed


def test_a_table_shows_20_items_and_a_file_has_all_unless_said_otherwise(capsys, tiny_run, tmp_path):
    options, path = (*SIDES, "--kind", "edge", "--permutations", 0, "--min-support", 1), tmp_path / "edges.csv"
    assert tracer("compare", tiny_run, *options, "-o", path) == 0
    n_items = pl.read_csv(path).height
    assert n_items > 20
    capsys.readouterr()
    assert tracer("compare", tiny_run, *options) == 0
    assert capsys.readouterr().out.rstrip().endswith("20 rows")
    assert tracer("compare", tiny_run, *options, "--top", 5, "-o", path) == 0
    assert pl.read_csv(path).height == 5


@pytest.mark.parametrize("kind", ["feature", "pair", "edge"])
def test_csv_json_and_parquet_hold_the_same_rows(kind, capsys, tiny_run, tmp_path):
    options = (*SIDES, "--kind", kind, "--top", 7, "--permutations", 50)
    assert tracer("compare", tiny_run, *options, "--format", "csv") == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert tracer("compare", tiny_run, *options, "--format", "json") == 0
    objects = json.loads(capsys.readouterr().out)
    path = tmp_path / "new" / "found.parquet"
    assert tracer("compare", tiny_run, *options, "-o", path) == 0
    assert f"written {path}" in capsys.readouterr().out
    frame = pl.read_parquet(path)
    assert frame.columns == list(rows[0]) == list(objects[0]) == COLUMNS
    assert frame.to_dicts() == objects
    assert len(rows) == frame.height == 7
    assert set(frame["kind"]) == {kind}
    assert [float(row["effect_size"]) for row in rows] == frame["effect_size"].to_list()
    sizes = frame["effect_size"].abs().to_list()
    assert sizes == sorted(sizes, reverse=True)
    if kind == "edge":
        named = frame.filter((pl.col("kind_a") == "token") | (pl.col("kind_b") == "logit"))
        assert named.height
        assert named.filter(kind_a="token")["label_a"].null_count() == 0


def test_counterfactuals_are_paired(capsys, tiny_run):
    assert tracer("compare", tiny_run, "--first", "state = 'Texas' AND prompt_id IN "
                  "(SELECT min(prompt_id) FROM prompts GROUP BY pair_id)", "--counterfactual", "--format", "json",
                  "--min-support", 1) == 0  # fmt: skip
    assert {row["is_paired"] for row in json.loads(capsys.readouterr().out)} == {True}


def test_another_run_is_compared_with_the_same_condition(capsys, tiny_run, tmp_path):
    build_tiny_run(tmp_path / "other", seed=3)
    assert tracer("compare", tiny_run, "--first", "task = 'antonym'", "--other-run", tmp_path / "other") == 0
    assert " graphs against " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--first", "true"), "found one side; expected --second COND"),
        ((*SIDES, "--counterfactual"), "found --second and --counterfactual"),
        (("--first", "tsk = 1", "--second", "true"), '"tsk" not found'),
        (("--first", "true", "--second", "true"), "prompts on both"),
        (("--first", "true; DELETE FROM prompts", "--second", "true"), "syntax error"),
        ((*SIDES, "--format", "parquet"), "found no file; expected -o FILE"),
        ((*SIDES, "-o", "found.txt"), "found ending .txt; expected .csv or .json or .parquet"),
        ((*SIDES, "--format", "csv", "-o", "found.json"), "found --format csv; expected json"),
        ((*SIDES, "--stratify-by", "colour"), "no column 'colour'"),
    ],
)
def test_what_cannot_be_compared_is_one_message(arguments, message, capsys, tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(capsys, "compare", tiny_run, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_groups_are_counted_by_a_column(capsys, tiny_run, tmp_path):
    save_groups(Groups(groups=(Group.of_features("Texas", [(0, 1, 0), (1, 1, 0)]),)), tmp_path / "groups.yaml")
    assert tracer("groups", tiny_run, tmp_path / "groups.yaml", "--by", "state") == 0
    printed = capsys.readouterr().out
    assert "by_value" in printed
    rows = [line.split() for line in printed.splitlines() if line.lstrip().startswith("Texas")]
    assert [row[1] for row in rows] == ["Ohio", "Texas", "Utah"]
    assert "no column 'colour'" in refusal(capsys, "groups", tiny_run, tmp_path / "groups.yaml", "--by", "colour")
