"""How answers are read: every item is answered once or failed, and nothing is filled in."""

import math

import numpy as np
import pytest

from tracer.autointerp.answers import IntruderAnswer, SimulationAnswer, VerdictsAnswer
from tracer.autointerp.client.calls import Call, Outcome, TokenLogprob
from tracer.autointerp.scoring.logprobs import expected_activations
from tracer.autointerp.scoring.questions import Answers, Question, Subject
from tracer.autointerp.scoring.rows import majority_rows, mean_rows, score_rows

SUBJECT = Subject(
    label_id="a", target_id="L0/1", layer=0, feature=1, method="llm", tested="label", words="fires on cats"
)
TRUTH = (True, False, True, False)


def question(**more: object) -> Question:
    """A detection question, changed."""
    call = Call(stage="detection", target="feature/0/1", messages=(), prompt_version="detect-1")
    return Question(**{"subject": SUBJECT, "scorer": "detection", "call": call, "truth": TRUTH} | more)  # type: ignore[arg-type]


def verdicts(*pairs: tuple[int, float]) -> Outcome[VerdictsAnswer]:
    """An answer."""
    items = [{"number": number, "chance": chance} for number, chance in pairs]
    return Outcome(status="ok", request_hash="h", parsed=VerdictsAnswer.model_validate({"verdicts": items}))


def test_unanswered_foreign_and_doubled_items_count_as_failed() -> None:
    answers = Answers()
    answers.add(question(), verdicts((1, 0.9), (2, 0.1), (2, 0.8), (7, 1.0), (3, 0.2)))
    assert [(one.is_positive, one.probability) for one in answers.verdicts] == [(True, 0.9), (True, 0.2)]
    assert answers.n_failed == 2
    (row, _) = score_rows(question(), answers, "m")
    assert (row["value"], row["n_failed"], row["n_positive"], row["n_negative"]) == (None, 2, 2, 0)
    assert row["message"]


@pytest.mark.parametrize("status", ["refused", "truncated", "parse_failed", "failed", "over_budget"])
def test_a_call_without_an_answer_fails_all_its_items_and_lowers_no_score(status: str) -> None:
    answers = Answers()
    answers.add(question(), Outcome(status=status, request_hash="h"))  # type: ignore[arg-type]
    assert (answers.verdicts, answers.n_failed) == ([], 4)
    answers.add(question(), verdicts((1, 1.0), (2, 0.0), (3, 1.0), (4, 0.0)))
    accuracy, area = score_rows(question(), answers, "m")
    assert (accuracy["value"], area["value"], accuracy["n_failed"]) == (1.0, 1.0, 4)


def test_intruders_are_right_wrong_or_failed() -> None:
    answers, asked = Answers(), question(intruder=2, truth=(False, True, False, False, False))
    for number in (2, 3, 9):
        parsed = IntruderAnswer(reasoning="", intruder=number)
        answers.add(asked, Outcome(status="ok", request_hash="h", parsed=parsed))
    assert (answers.found, answers.n_failed) == ([True, False], 1)
    (row,) = score_rows(asked, answers, "m")
    assert (row["measure"], row["value"], row["chance"], row["n_positive"]) == ("accuracy", 0.5, 0.2, 2)


def test_a_simulated_text_of_another_length_is_failed() -> None:
    asked = question(truth=(), activations=((0.0, 2.0, 1.0), (0.0, 0.0)))
    texts = [{"number": 1, "activations": [0, 10, 5]}, {"number": 2, "activations": [0, 0, 0]}]
    parsed = SimulationAnswer.model_validate({"texts": texts})
    answers = Answers()
    answers.add(asked, Outcome(status="ok", request_hash="h", parsed=parsed))
    assert answers.n_failed == 1
    (row,) = score_rows(asked, answers, "m")
    assert (row["measure"], row["value"], row["chance"]) == ("correlation", pytest.approx(1.0), 0.0)


def test_log_probabilities_give_the_mean_over_alternative_numbers() -> None:
    def token(text: str, *others: tuple[str, float]) -> TokenLogprob:
        top = tuple((name, math.log(share)) for name, share in others)
        return TokenLogprob(text, top[0][1] if top else 0.0, top)

    tokens = [
        token('{"texts":[{"number":1,"activations":'), token("["), token("3", ("3", 0.6), ("9", 0.3), ("x", 0.1)),
        token(","), token(" 0", (" 0", 1.0)), token("]"), token("}]}"),
    ]  # fmt: skip
    assert expected_activations(tokens, [3, 0]) == [pytest.approx((3 * 0.6 + 9 * 0.3) / 0.9), 0.0]
    assert expected_activations(tokens, [3, 1]) is None
    assert expected_activations([], [3, 0]) is None


def test_the_null_of_the_majority_is_one_half_and_means_hold_differences_by_label() -> None:
    rows = []
    for label_id, right in (("a", 1.0), ("b", 0.0)):
        for tested, chance in (("label", right), ("other_label", 0.5)):
            subject = Subject(
                label_id=label_id, target_id=label_id, layer=0, feature=1, method="llm", tested=tested, words=""
            )
            answers, asked = Answers(), question(subject=subject)
            answers.add(asked, verdicts((1, chance), (2, 1 - chance), (3, chance), (4, 1 - chance)))
            rows += score_rows(asked, answers, "m")
        rows += majority_rows(question(subject=subject))
    means = {(row["tested"], row["measure"], row["layer"]): row for row in mean_rows(rows, {"a": "llm", "b": "llm"})}
    assert means["label", "auc", -1]["value"] == 0.5
    assert (means["label", "auc", 0]["n_labels"], means["label", "auc", 0]["n_failed"]) == (2, 0)
    assert means["label_minus_other_label", "auc", -1]["value"] == 0.0
    assert means["label_minus_other_label", "auc", -1]["low"] < 0 < means["label_minus_other_label", "auc", -1]["high"]
    assert means["majority", "balanced_accuracy", -1]["value"] == 0.5
    assert np.isclose(means["other_label", "auc", -1]["value"], 0.5)
