"""The whole stage on the demo run, against a server of the protocol: nothing lost, doubled or falsely scored."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from tests.autointerp.conftest import LABELS, label_copy, labelling
from tests.autointerp.faults import Faults
from tests.autointerp.labellers import Oracle
from tests.autointerp.server import Server, read_log, serving
from tracer.autointerp.client.answerer import Answerer
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.client.ledger import COMPACTED_NAME, segment_names
from tracer.autointerp.keeping import FOLDER
from tracer.errors import ArtifactError, ConfigError
from tracer.run.asking import opened_stage
from tracer.run.labelling import label_run
from tracer.storage.store import open_store
from tracer.tables.database import query

N_UNDER_FAULTS = 60
MEANS = """
    SELECT tested, measure, n_labels, n_without, n_failed, value, low, high FROM label_score_means
    WHERE scorer = '{scorer}' AND layer = -1 AND method = 'llm'
"""
GIVEN_UP = """
    WITH asked AS (
        SELECT c.*, coalesce(c.repairs, c.request_hash) AS call FROM llm_calls c WHERE stage = '{stage}'
    )
    SELECT target, status, request FROM asked QUALIFY row_number() OVER (
        PARTITION BY call ORDER BY repairs IS NOT NULL DESC, attempt DESC
    ) = 1 AND status <> 'ok'
"""
"""Calls whose last answer is of no use: a repair, where one was asked, else the latest attempt."""
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
        # guesses: an interval of 95 % misses what they are about in one of twenty
        guessed = rows["random_direction", measure]
        assert abs(guessed["value"] - 0.5) <= 0.75 * (guessed["high"] - guessed["low"])  # 3 standard errors
        for difference in ("label_minus_other_label", "label_minus_random_direction"):
            assert rows[difference, measure]["low"] > 0.25
            assert rows[difference, measure]["n_labels"] >= 30


def test_the_oracle_finds_intruders_and_a_guesser_does_not(labelled_run: Path, guessed_run: Path) -> None:
    assert means(labelled_run, "intruder")["label", "accuracy"]["value"] >= 0.9
    for tested in ("label", "random_direction"):
        guessed = means(guessed_run, "intruder")[tested, "accuracy"]
        assert guessed["low"] <= 0.2 <= guessed["high"]


def test_a_guesser_and_its_nulls_score_one_half(guessed_run: Path) -> None:
    rows = means(guessed_run, "detection")
    for tested in ("label", "other_label", "majority", "random_direction"):
        for measure in ("balanced_accuracy", "auc"):
            row = rows[tested, measure]
            assert row["n_labels"] >= 30
            assert row["low"] <= 0.5 <= row["high"], (tested, measure, row)


def test_a_random_direction_is_asked_about_once_and_its_label_is_nobodys_but_its_own(labelled_run: Path) -> None:
    database = labelled_run / "results.duckdb"
    labels = query(
        database,
        "SELECT target_id, feature, label, method, stage, target FROM all_labels JOIN llm_calls USING (request_hash) "
        "WHERE target_kind = 'random_direction'",
    )
    assert labels.height == LABELS["n_scored"]
    assert (labels["target_id"] == labels["target"]).all()
    assert labels["feature"].is_null().all()
    assert labels["label"].str.starts_with("unknown").all()
    assert query(database, "SELECT count(*) FROM llm_calls WHERE stage = 'random_direction'").item() == labels.height
    scores = query(
        database,
        "SELECT DISTINCT 'random_direction/' || s.layer || '/' || s.feature AS target_id, l.target_id AS name "
        "FROM label_scores s JOIN all_labels l USING (label_id) WHERE tested = 'random_direction'",
    )
    assert set(scores["target_id"]) == set(labels["target_id"])
    assert scores["name"].str.starts_with("L").all()


def test_a_harvest_without_documents_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="stored prompts"):
        label_run(tmp_path, config=labelling("http://127.0.0.1:9"), harvest=tmp_path, console=Console(quiet=True))


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
    store = open_store(labelled_run)
    assert segment_names(store, FOLDER) == []
    assert store.has([f"{FOLDER}/{COMPACTED_NAME}"])
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
    few = "SELECT layer, feature FROM features ORDER BY influence_sum DESC LIMIT 3"
    deep = [f"L{layer}/{feature}" for layer, feature in query(run / "results.duckdb", few).rows()]
    with serving(Server(answer=oracle, log=tmp_path / "server.jsonl")) as url:
        config = labelling(url, scorers=["detection", "output_logits"], deep=deep, max_groups=10)
        found = label_run(run, config=config, harvest=harvest, inline=True, only_estimate=True, console=console)
        assert found is not None
        label_run(run, config=config, harvest=harvest, inline=True, console=console)
        files = (run / "results.duckdb", config, harvest / "results.duckdb", harvest)
        with opened_stage(open_store(run), *files, inline=True, console=console) as asking:
            left = asking.estimate()
    paid = query(run / "results.duckdb", "SELECT sum(cost_usd) FROM llm_calls").item() - found.spent_usd
    n_asked = dict(query(run / "results.duckdb", "SELECT stage, count(*) FROM llm_calls GROUP BY stage").rows())
    assert found.unknown == ()
    assert found.cost_usd == pytest.approx(paid, rel=0.15)
    assert (n_asked["draft"], n_asked["settle"]) == (9, 3)
    assert found.n_deep == 8  # one of the three was looked at for the estimate
    assert found.n_groups == n_asked["group"] - 12  # those of the sample knew other labels of their members
    assert (left.n_labels, left.n_scores, left.n_deep, left.n_groups) == (0, 0, 0, 0)
    assert (left.cost_usd, left.spent_usd) == (0.0, 0.0)


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
        harvested = harvest / "results.duckdb"
        with opened_stage(store, database, config, harvested, harvest, inline=True, console=console) as asking:
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
    faults = Faults.of_every_kind(0.3, seed=3)
    run = label_copy(
        demo_run, harvest, tmp_path, oracle, faults=faults, scorers=["detection"], deep=[], n_scored=20,
        max_features=N_UNDER_FAULTS,
        max_groups=5, autointerp={"timeout_s": 2.0},
    )  # fmt: skip
    database, log = run / "results.duckdb", tmp_path / "server.jsonl"
    results = Counter(row["result"] for row in read_log(log))
    assert results.keys() >= {"429", "503", "malformed", "hung", "dropped"}
    assert {"refused", "truncated", "parse_failed"} <= set(query(database, "SELECT status FROM llm_calls")["status"])
    failures = query(
        database, "SELECT error_class, split_part(item_id, ' ', 2) AS name FROM failures WHERE item_id LIKE 'llm L%'"
    )
    given_up = query(database, GIVEN_UP.format(stage="label"))["target"].str.replace(r"feature/(\d+)", "L$1")
    failed_names = failures.filter(pl.col("error_class") != "skipped")["name"]
    assert sorted(failed_names) == sorted(given_up)
    features = [
        *query(database, "SELECT target_id FROM all_labels WHERE method = 'llm' AND target_id LIKE 'L%'")["target_id"],
        *failures["name"],
    ]
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
    unanswered = query(database, GIVEN_UP.format(stage="detection"))["request"]
    asked = (json.loads(request)["messages"][1][1].partition("Texts:\n")[2] for request in unanswered)
    assert failed == sum(len(re.findall(r"^\d+\. ", texts, re.MULTILINE)) for texts in asked)


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
