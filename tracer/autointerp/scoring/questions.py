"""What a test asks, and how its answers are read: items whose truth is known, each answered or counted as failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracer.autointerp.answers import IntruderAnswer, SimulationAnswer, VerdictsAnswer
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.scoring.logprobs import expected_activations
from tracer.autointerp.scoring.measures import Floats, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose label is tested: `tested` is label, or the name of a null, whose words are then asked about."""

    label_id: str
    target_id: str
    layer: int | None
    feature: int | None
    method: str
    tested: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call and the truth about its items: for yes and no, whether each is right; for an intruder, its number is
    `intruder`; for a simulation, the activations of each text.
    """

    subject: Subject
    scorer: str
    call: Call[Any]
    truth: tuple[bool, ...] = ()
    intruder: int = 0
    activations: tuple[tuple[float, ...], ...] = ()
    examples_hash: str = ""
    documents: tuple[str, ...] = ()

    @property
    def is_yes_or_no(self) -> bool:
        """Whether every item is right or not."""
        return not self.intruder and not self.activations


@dataclass(slots=True)
class Answers:
    """What came back for one subject and scorer, over all its calls."""

    verdicts: list[Verdict] = field(default_factory=list)
    found: list[bool] = field(default_factory=list)
    foretold: list[tuple[Floats, Floats]] = field(default_factory=list)
    n_failed: int = 0

    def add(self, question: Question, outcome: Outcome[Any]) -> None:
        """Read one outcome; an item without a valid answer is failed, and so is one that was answered twice."""
        answer = outcome.parsed if outcome.is_ok else None
        if question.intruder:
            if isinstance(answer, IntruderAnswer) and 1 <= answer.intruder <= len(question.truth):
                self.found.append(answer.intruder == question.intruder)
            else:
                self.n_failed += 1
        elif question.activations:
            self._add_simulation(question, answer, outcome)
        else:
            verdicts = answer.verdicts if isinstance(answer, VerdictsAnswer) else []
            given = _once((one.number, one.chance) for one in verdicts)
            for number, is_positive in enumerate(question.truth, 1):
                if number in given:
                    self.verdicts.append(Verdict(is_positive=is_positive, probability=given[number]))
                else:
                    self.n_failed += 1

    def _add_simulation(self, question: Question, answer: object, outcome: Outcome[Any]) -> None:
        given = (
            _once((one.number, one.activations) for one in answer.texts) if isinstance(answer, SimulationAnswer) else {}
        )
        lengths = [len(values) for values in given.values()]
        expected = expected_activations(outcome.logprobs, [number for values in given.values() for number in values])
        means = dict(zip(given, _cut(expected, lengths), strict=True)) if expected is not None else given
        for number, measured in enumerate(question.activations, 1):
            if number in given and len(given[number]) == len(measured):
                self.foretold.append((np.asarray(means[number], dtype=float), np.asarray(measured, dtype=float)))
            else:
                self.n_failed += 1


def _once(pairs: Iterable[tuple[int, Any]]) -> dict[int, Any]:
    """What was said of each number; of one that was named twice, nothing."""
    given: dict[int, Any] = {}
    twice = set()
    for number, value in pairs:
        if number in given:
            twice.add(number)
        given[number] = value
    return {number: value for number, value in given.items() if number not in twice}


def _cut(values: Sequence[float], lengths: Sequence[int]) -> list[Sequence[float]]:
    ends = np.cumsum([0, *lengths])
    return [values[start:end] for start, end in zip(ends[:-1], ends[1:], strict=True)]
