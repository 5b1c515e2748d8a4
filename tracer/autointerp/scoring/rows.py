"""Rows of `label_scores` and `label_score_means` from answers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tracer.autointerp.feature_evidence import RANDOM_DIRECTION
from tracer.autointerp.scoring.measures import Figure, Verdict, classification, mean, mean_correlation
from tracer.autointerp.scoring.questions import Answers, Question, Subject

Row = dict[str, Any]
NULLS = ("other_label", RANDOM_DIRECTION)
"""What a label is compared with, one by one."""
ALL_LAYERS = -1


def score_rows(question: Question, answers: Answers, judge: str) -> list[Row]:
    """The scores of one subject by one scorer.

    Args:
        question: one of those asked; they share subject, scorer and version.
        answers: what came back for all of them.
        judge: the model that was asked.
    """
    name = f"{question.subject.label_id}|{question.scorer}|{question.subject.tested}"
    common = _about(question.subject, question.scorer) | {
        "n_failed": answers.n_failed,
        "judge": judge,
        "prompt_version": question.call.prompt_version,
        "examples_hash": question.examples_hash,
    }

    def row(measure: str, figure: Figure, chance: float, n_positive: int, n_negative: int) -> Row:
        message = None if figure.value is not None else "too little was answered"
        return common | {
            "measure": measure, "value": figure.value, "low": figure.low, "high": figure.high, "chance": chance,
            "n_positive": n_positive, "n_negative": n_negative, "message": message,
        }  # fmt: skip

    if question.intruder:
        figure, n = mean([float(right) for right in answers.found], name=name), len(answers.found)
        return [row("accuracy", figure, 1 / len(question.truth), n, 0)]
    if question.activations:
        n_active = sum(bool(measured.any()) for _, measured in answers.foretold)
        figure = mean_correlation(answers.foretold, name=name)
        return [row("correlation", figure, 0.0, n_active, len(answers.foretold) - n_active)]
    n_positive = sum(verdict.is_positive for verdict in answers.verdicts)
    counts = (n_positive, len(answers.verdicts) - n_positive)
    accuracy, area = classification(answers.verdicts, name=name)
    return [row("balanced_accuracy", accuracy, 0.5, *counts), row("auc", area, 0.5, *counts)]


def majority_rows(question: Question) -> list[Row]:
    """The null that gives every item of a yes-or-no test the commoner answer; no call is made for it."""
    share = float(np.mean(question.truth))
    verdicts = [Verdict(is_positive=is_positive, probability=share) for is_positive in question.truth]
    answers = Answers(verdicts=verdicts)
    rows = score_rows(question, answers, judge="")
    return [row | {"tested": "majority", "judge": None, "prompt_version": None} for row in rows]


def missing_row(subject: Subject, scorer: str, measure: str, message: str) -> Row:
    """Says why there is no score."""
    return _about(subject, scorer) | {
        "measure": measure, "value": None, "n_positive": 0, "n_negative": 0, "n_failed": 0, "message": message,
    }  # fmt: skip


def _about(subject: Subject, scorer: str) -> Row:
    return {
        "label_id": subject.label_id,
        "target_kind": "feature",
        "target_id": subject.target_id,
        "layer": subject.layer,
        "feature": subject.feature,
        "scorer": scorer,
        "tested": subject.tested,
    }


def mean_rows(scores: Iterable[Row], method_of: Mapping[str, str]) -> list[Row]:
    """Means over labels by method, scorer, measure and what was tested, for each layer and for all; and the mean
    difference between a label and each of the nulls that have words of their own.

    Args:
        scores: rows of `label_scores`.
        method_of: who labelled, by label_id.
    """
    groups: dict[tuple[str, str, str, str, int], list[Row]] = defaultdict(list)
    for row in scores:
        method = method_of.get(row["label_id"])
        if method is None:
            continue
        layers = [ALL_LAYERS] if row["layer"] is None else [ALL_LAYERS, row["layer"]]
        for layer in layers:
            groups[method, row["scorer"], row["measure"], row["tested"], layer].append(row)
    means = [_mean_row(key, rows) for key, rows in groups.items()]
    for (method, scorer, measure, tested, layer), rows in groups.items():
        for null in NULLS if tested == "label" else ():
            others = groups.get((method, scorer, measure, null, layer), [])
            differences = _differences(rows, others)
            if differences:
                key = (method, scorer, measure, f"label_minus_{null}", layer)
                means.append(_mean_row(key, differences) | {"chance": None})
    return means


def _differences(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    null_of = {row["label_id"]: row for row in others}
    pairs = [(row, null_of[row["label_id"]]) for row in rows if row["label_id"] in null_of]
    return [
        row
        | {
            "value": None if row["value"] is None or null["value"] is None else row["value"] - null["value"],
            "n_failed": row["n_failed"] + null["n_failed"],
        }
        for row, null in pairs
    ]


def _mean_row(key: tuple[str, str, str, str, int], rows: Sequence[Row]) -> Row:
    method, scorer, measure, tested, layer = key
    values = [row["value"] for row in rows if row["value"] is not None]
    figure = mean(values, name="|".join(map(str, key)))
    chances = [row["chance"] for row in rows if row.get("chance") is not None]
    return {
        "method": method, "scorer": scorer, "measure": measure, "tested": tested, "layer": layer,
        "n_labels": len(values), "n_without": len(rows) - len(values),
        "n_failed": sum(row["n_failed"] for row in rows),
        "value": figure.value, "low": figure.low, "high": figure.high,
        "chance": float(np.mean(chances)) if chances else None,
    }  # fmt: skip
