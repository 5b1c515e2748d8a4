"""Equality of two results files: every kind of difference is found, and what may differ is let pass."""

import shutil
from pathlib import Path

import duckdb
import pytest

from tests.tables.tiny_run import build_tiny_run
from tracer.tables.equality import compare_tables


def changed_copy(results: Path, tmp_path: Path, *statements: str) -> Path:
    """A copy with some SQL done to it."""
    path = Path(shutil.copy(results, tmp_path))
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


def test_a_file_equals_itself_and_a_second_build(tiny_results: Path, tmp_path: Path) -> None:
    assert compare_tables(tiny_results, tiny_results) == []
    assert compare_tables(tiny_results, build_tiny_run(tmp_path)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE graphs SET seconds = 99, host = 'elsewhere', attempt = 7",
        "UPDATE runs SET run_id = 'again', seconds = 1",
        "UPDATE edges SET weight = weight * (1 + 3e-6)",
        "UPDATE features SET top_token_logits = list_transform(top_token_logits, lambda logit: logit * (1 - 3e-6))",
        "UPDATE cooccurrence SET npmi = 1e-14 WHERE npmi = 0",
        "CREATE TEMP TABLE again AS FROM nodes ORDER BY random(); DELETE FROM nodes; INSERT INTO nodes FROM again",
    ],
    ids=["volatile", "volatile run", "last bits", "last bits in lists", "rounded zero", "order of rows"],
)
def test_what_may_differ_is_let_pass(tiny_results: Path, tmp_path: Path, statement: str) -> None:
    assert compare_tables(tiny_results, changed_copy(tiny_results, tmp_path, statement)) == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("UPDATE edges SET weight = weight * (1 + 3e-5)", "edges.weight: "),
        ("UPDATE prompts SET difficulty = difficulty + 1 WHERE rowid = 0", "prompts.difficulty: 1 rows differ"),
        ("UPDATE all_labels SET label = 'other' WHERE rowid = 0", "all_labels.label: 1 rows differ"),
        ("UPDATE features SET activation_max = NULL WHERE rowid = 0", "features.activation_max: 1 rows differ"),
        ("UPDATE features SET activation_max = 'nan' WHERE rowid = 0", "features.activation_max: 1 rows differ"),
        ("UPDATE features SET top_tokens = ['x'] WHERE rowid = 0", "features.top_tokens: 1 rows differ"),
        ("UPDATE examples SET window_activations = [0.0] WHERE rowid = 0", "examples.window_activations: 1 rows"),
        ("UPDATE examples SET window_activations = [x + 1 FOR x IN window_activations]", "examples.window_act"),
        ("DELETE FROM nodes WHERE rowid = 0", "nodes: 1 keys only in the first file"),
        ("INSERT INTO logits SELECT * FROM logits LIMIT 1", "logits: 1 keys only in the second file"),
        ("UPDATE graphs SET graph_id = 'x' WHERE rowid = 0", "graphs: 1 keys only in the second file"),
        ("DROP TABLE components", "components: only in one file"),
        ("ALTER TABLE prompts DROP COLUMN city", "prompts: columns"),
    ],
)
def test_every_kind_of_difference_is_found(tiny_results: Path, tmp_path: Path, statement: str, expected: str) -> None:
    differences = compare_tables(tiny_results, changed_copy(tiny_results, tmp_path, statement))
    assert any(expected in difference for difference in differences), differences
    assert differences == sorted(differences, key=lambda line: line.split(":")[0].split(".")[0])
