"""The whole stage on the demo run, against a server of the protocol: nothing lost, doubled or falsely scored."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from tests.autointerp.conftest import label_copy, labelling
from tests.autointerp.faults import Faults
from tests.autointerp.labellers import Oracle
from tests.autointerp.server import Server, read_log, serving
from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.calls import Call, Outcome
from tracer.errors import ConfigError
from tracer.run.asking import opened_stage
from tracer.run.labelling import label_run
from tracer.storage.store import open_store
from tracer.tables.database import query

N_UNDER_FAULTS = 60
MEANS = """
    SELECT tested, measure, n_labels, n_without, n_failed, value, low, high FROM label_score_means
    WHERE scorer = '{scorer}' AND layer = -1 AND method = 'llm'
"""
LEAKS = """
    SELECT label_id, document_id FROM label_splits GROUP BY ALL HAVING count(DISTINCT split) > 1
"""


def means(run: Path, scorer: str) -> dict[tuple[str, str], dict[str, float]]:
    """Rows of `label_score_means` by what was tested and measured."""
    rows = query(run / "results.duckdb", MEANS.format(scorer=scorer)).to_dicts()
    return {(row["tested"], row["measure"]): row for row in rows}


@pytest.mark.parametrize("scorer", ["detection", "fuzzing", "output_logits"])
def test_the_oracle_is_right_and_its_nulls_are_at_chance(labelled_run: Path, scorer: str) -> None:
    rows = means(labelled_run, scorer)
    for measure in ("balanced_accuracy", "auc"):
        assert rows["label", measure]["value"] >= 0.9
        assert rows["label", measure]["n_labels"] >= 30
        for null in ("other_label", "majority"):
            assert rows[null, measure]["low"] <= 0.5 <= rows[null, measure]["high"], (null, measure)
        assert rows["label_minus_other_label", measure]["low"] > 0.25


def test_the_oracle_finds_intruders_and_a_guesser_does_not(labelled_run: Path, guessed_run: Path) -> None:
    assert means(labelled_run, "intruder")["label", "accuracy"]["value"] >= 0.9
    guessed = means(guessed_run, "intruder")["label", "accuracy"]
    assert guessed["low"] <= 0.2 <= guessed["high"]


def test_a_guesser_and_its_nulls_score_one_half(guessed_run: Path) -> None:
    rows = means(guessed_run, "detection")
    for tested in ("label", "other_label", "majority"):
        for measure in ("balanced_accuracy", "auc"):
            row = rows[tested, measure]
            assert row["n_labels"] >= 30
            assert row["low"] <= 0.5 <= row["high"], (tested, measure, row)


def test_splits_are_stored_and_no_document_is_on_both_sides(labelled_run: Path) -> None:
    database = labelled_run / "results.duckdb"
    assert query(database, LEAKS).height == 0
    splits = query(database, "SELECT split, count(DISTINCT label_id) AS n FROM label_splits GROUP BY split")
    n = dict(splits.rows())
    assert n["explain"] >= 100
    assert n["score"] >= 30
    unseen = query(
        database,
        "SELECT count(*) FROM label_scores s WHERE value IS NOT NULL AND scorer = 'detection' AND tested = 'label' "
        "AND NOT EXISTS (SELECT 1 FROM label_splits p WHERE p.label_id = s.label_id AND p.split = 'score')",
    )
    assert unseen.item() == 0


def test_labels_of_groups_name_the_task(labelled_run: Path) -> None:
    labels = query(
        labelled_run / "results.duckdb",
        "SELECT by_value, label FROM labels JOIN circuits ON target_id = circuit_id AND target_kind = 'group' "
        "WHERE circuits.kind = 'consensus' AND by_column = 'task'",
    )
    named = [task for task, label in labels.rows() if label == f"task {task}"]
    assert labels.height >= 10
    assert len(named) >= 0.8 * labels.height
    components = query(
        labelled_run / "results.duckdb", "SELECT count(*) FROM labels WHERE target_kind = 'component'"
    ).item()
    assert components >= 10


def test_a_label_settled_from_drafts_is_current_and_keeps_the_other_beside_it(labelled_run: Path) -> None:
    rows = query(
        labelled_run / "results.duckdb",
        "SELECT method, is_current, confidence FROM all_labels WHERE target_id = 'L0/5' ORDER BY method",
    ).rows()
    methods = {method: (is_current, confidence) for method, is_current, confidence in rows}
    assert methods["llm_deep"] == (True, 1.0)
    assert {"rule", "rule_harvest"} <= methods.keys()
    assert sum(is_current for _, is_current, _ in rows) == 1


def test_every_answer_is_a_row_every_label_points_to_its_answer_and_again_nothing_is_asked(labelled_run: Path) -> None:
    database = labelled_run / "results.duckdb"
    log = read_log(labelled_run.parent / "server.jsonl")
    n_answers = sum(row["result"] == "answer" for row in log)
    assert query(database, "SELECT count(*) FROM llm_calls").item() == n_answers == len(log) > 300
    orphans = query(
        database,
        "SELECT count(*) FROM all_labels WHERE starts_with(method, 'llm') "
        "AND request_hash NOT IN (SELECT request_hash FROM llm_calls WHERE status = 'ok')",
    )
    assert orphans.item() == 0
    doubled = query(database, "SELECT label_id FROM all_labels GROUP BY label_id HAVING count(*) > 1")
    assert doubled.height == 0


def test_what_labelling_will_cost_is_within_15_per_cent_of_the_spend_that_follows(
    demo_run: Path, harvest: Path, oracle: Oracle, tmp_path: Path
) -> None:
    run, console = tmp_path / "run", Console(quiet=True)
    shutil.copytree(demo_run, run)
    with serving(Server(answer=oracle, log=tmp_path / "server.jsonl")) as url:
        config = labelling(url, scorers=["detection", "output_logits"], deep=[], max_groups=10)
        found = label_run(run, config=config, harvest=harvest, inline=True, only_estimate=True, console=console)
        assert found is not None
        label_run(run, config=config, harvest=harvest, inline=True, console=console)
    paid = query(run / "results.duckdb", "SELECT sum(cost_usd) FROM llm_calls").item() - found.spent_usd
    assert found.unknown == ()
    assert found.cost_usd == pytest.approx(paid, rel=0.15)


class Reordered:
    """Answers as another does, in the order of the answers' texts, or in the opposite one."""

    def __init__(self, answerer: Answerer, *, backwards: bool) -> None:
        self._answerer, self._backwards = answerer, backwards

    def answer(self, calls: Iterable[Call[Any]]) -> Iterator[tuple[Call[Any], Outcome[Any]]]:
        answered = sorted(self._answerer.answer(calls), key=lambda item: (item[1].text, str(item[0].messages)))
        yield from reversed(answered) if self._backwards else answered


def test_labels_and_scores_do_not_depend_on_the_order_of_answers(labelled_run: Path, harvest: Path) -> None:
    database = labelled_run / "results.duckdb"
    url = query(database, "SELECT DISTINCT endpoint FROM llm_calls").item().removesuffix("/v1")
    made = []
    for backwards in (False, True):
        config, console = labelling(url, deep=["L0/5", "L0/5"]), Console(quiet=True)
        store = open_store(labelled_run)
        with opened_stage(store, database, config, harvest, inline=True, console=console) as asking:
            answerer = Reordered(asking.answerer, backwards=backwards)
            made.append(replace(asking, stage=replace(asking.stage, answerer=answerer)).label())
    for rows in made:
        item_ids = [row["item_id"] for row in rows.failures]
        assert len(item_ids) == len(set(item_ids))
    ids = [sorted(row["label_id"] for row in rows.all_labels) for rows in made]
    known = query(database, "SELECT label_id FROM all_labels WHERE starts_with(method, 'llm') ORDER BY label_id")
    assert ids[0] == ids[1] == known["label_id"].to_list()
    scores = [sorted(rows.label_scores, key=repr) for rows in made]
    assert scores[0] == scores[1]


def test_under_faults_nothing_is_lost_doubled_or_falsely_scored(
    demo_run: Path, harvest: Path, oracle: Oracle, labelled_run: Path, tmp_path: Path
) -> None:
    faults = Faults.of_every_kind(0.1, seed=3)
    run = label_copy(
        demo_run, harvest, tmp_path, oracle, faults=faults, scorers=["detection"], deep=[], n_scored=20,
        max_features=N_UNDER_FAULTS,
        max_groups=5, autointerp={"timeout_s": 2.0},
    )  # fmt: skip
    database, log = run / "results.duckdb", tmp_path / "server.jsonl"
    results = Counter(row["result"] for row in read_log(log))
    assert {"429", "503", "malformed", "hung", "dropped"} & results.keys()
    features = query(
        database,
        "SELECT target_id FROM all_labels WHERE method = 'llm' AND target_kind = 'feature' "
        "UNION ALL SELECT split_part(item_id, ' ', 2) FROM failures WHERE item_id LIKE 'llm L%'",
    )["target_id"]
    clean = query(
        labelled_run / "results.duckdb", "SELECT target_id, label FROM all_labels WHERE method = 'llm' AND layer >= 0"
    )
    expected = clean.filter(pl.col("target_id").str.starts_with("L"))
    assert len(features) == len(set(features)) == N_UNDER_FAULTS
    assert set(features) <= set(expected["target_id"])
    labels = query(database, "SELECT target_id, label FROM all_labels WHERE method = 'llm' AND target_id LIKE 'L%'")
    assert labels.join(expected, on=["target_id", "label"], how="anti").height == 0
    rows = means(run, "detection")["label", "balanced_accuracy"]
    assert (rows["value"], rows["low"], rows["high"]) == (1.0, 1.0, 1.0)
    failed = query(
        database,
        "SELECT sum(n_failed) FROM label_scores WHERE scorer = 'detection' AND tested <> 'majority' "
        "AND measure = 'auc'",
    ).item()
    n_bad = query(
        database, "SELECT count(*) FROM llm_calls WHERE stage = 'detection' AND status <> 'ok' AND repairs IS NULL"
    ).item()
    assert (failed > 0) == (n_bad > 0)


def test_scores_need_a_harvest_and_labels_do_not(demo_run: Path, oracle: Oracle, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(demo_run, run)
    with serving(Server(answer=oracle, log=tmp_path / "server.jsonl")) as url:
        with pytest.raises(ConfigError, match="no harvest"):
            label_run(run, config=labelling(url), inline=True, console=Console(quiet=True))
        few = {"max_features": 5, "max_groups": 1, "groups": ["consensus"], "n_scored": 0, "deep": []}
        label_run(run, config=labelling(url, **few), inline=True, console=Console(quiet=True))
    rows = query(run / "results.duckdb", "SELECT target_kind, count(*) FROM all_labels WHERE method = 'llm' GROUP BY 1")
    assert dict(rows.rows()) == {"feature": 5, "group": 1}
    assert query(run / "results.duckdb", "SELECT count(*) FROM label_scores").item() == 0
