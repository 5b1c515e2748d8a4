"""What the steps of labelling share: the run, what answers calls, and the order of steps.

Each step asks its calls through the ledger, so that what was answered once is never paid for again. What a call could
not answer becomes a row of `failures`, or counts as failed in a score.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.explaining import Labels
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey, Source, read_features
from tracer.autointerp.labeller import feature_id
from tracer.autointerp.rows import Rows
from tracer.config.labels import LabelConfig
from tracer.tables.database import Connection

FEATURES_AT_ONCE = 128
RULE_LABELS = "SELECT layer, feature, label FROM all_labels WHERE target_kind = 'feature' AND method = 'rule'"
Context = TypeVar("Context")


@runtime_checkable
class CallAnswerer(Protocol):
    """What answers calls: `tracer.autointerp.client.answerer.Answerer` is the one of the product."""

    def answer(self, calls: Iterable[Call[Any]]) -> Iterator[tuple[Call[Any], Outcome[Any]]]:
        """Each call with its outcome, in order of completion."""


@runtime_checkable
class Watcher(Protocol):
    """Told how far the stage is."""

    def begin(self, step: str, n_calls: int) -> None:
        """A step starts; at most so many calls."""

    def answered(self, outcome: Outcome[Any]) -> None:
        """One more outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One go at labelling a run: `connection` is to its results file, a harvest attached where `source` says so;
    `model` is the one that is asked.
    """

    connection: Connection
    source: Source
    answerer: CallAnswerer
    settings: LabelConfig
    model: str
    watcher: Watcher
    rows: Rows = field(default_factory=Rows)

    def ask(
        self, step: str, n_calls: int, items: Iterable[tuple[Call[Any], Context]]
    ) -> Iterator[tuple[Call[Any], Context, Outcome[Any]]]:
        """Answer calls; each outcome with its call and what was given beside it, in order of completion."""
        self.watcher.begin(step, n_calls)
        waiting: dict[Call[Any], list[Context]] = {}

        def calls() -> Iterator[Call[Any]]:
            for call, context in items:
                waiting.setdefault(call, []).append(context)
                yield call

        for call, outcome in self.answerer.answer(calls()):
            self.watcher.answered(outcome)
            yield call, waiting[call].pop(), outcome

    def evidence(
        self, keys: Sequence[FeatureKey], *, method: str, n_circuit_examples: int = 0
    ) -> Iterator[FeatureEvidence]:
        """Evidence about features, read a batch at a time; one that never fired where texts were looked for becomes a
        row of `failures` in the name of `method`.
        """
        coming = iter(keys)
        while batch := list(islice(coming, FEATURES_AT_ONCE)):
            found = read_features(self.connection, self.source, batch, n_circuit_examples=n_circuit_examples)
            for key in sorted(set(batch) - {evidence.key for evidence in found}):
                self.rows.skip(method, feature_id(*key), "it never fired where texts were looked for")
            yield from found

    def rule_labels(self) -> Labels:
        """Labels by rule, which are the same at every go: what other features are told by."""
        return {(layer, feature): label for layer, feature, label in self.connection.execute(RULE_LABELS).fetchall()}
