"""What labelling makes, as rows of its tables; also of what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tracer.autointerp.answers import FeatureAnswer, SettledAnswer
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey
from tracer.autointerp.labeller import make_label_id
from tracer.autointerp.scoring.measures import hashed
from tracer.autointerp.splits import Text

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLabel:
    """A feature's label, as its tests need it; `texts` are those that its author saw."""

    label_id: str
    key: FeatureKey
    method: str
    label: str
    description: str
    activation_frequency: float
    texts: tuple[Text, ...]

    @property
    def words(self) -> str:
        """What a judge is told."""
        return f"{self.label}: {self.description}"


@dataclass(slots=True)
class Rows:
    """What has been made so far, by table; `features` are the labels that tests can be made for, `directions` those of
    random directions, by the feature that each is matched to.
    """

    all_labels: list[Row] = field(default_factory=list)
    label_scores: list[Row] = field(default_factory=list)
    label_splits: list[Row] = field(default_factory=list)
    failures: list[Row] = field(default_factory=list)
    features: dict[FeatureKey, FeatureLabel] = field(default_factory=dict)
    directions: dict[FeatureKey, FeatureLabel] = field(default_factory=dict)

    def keep_feature(
        self, evidence: FeatureEvidence, texts: Sequence[Text], call: Call[Any], outcome: Outcome[Any],
        answer: FeatureAnswer | SettledAnswer, *, method: str, model: str, confidence: float | None = None,
    ) -> None:  # fmt: skip
        """A language model's label of a feature, or of a random direction: that one's row names no feature, so that
        nobody takes it for a feature's.

        Args:
            evidence: the feature or direction.
            texts: all that the model was shown of it.
            call: what it was asked.
            outcome: what came back, and from which request.
            answer: the label.
            method: llm or llm_deep.
            model: which one.
            confidence: the share of drafts that agree, where there were several.
        """
        kind, name, examples_hash = evidence.target_kind, evidence.target_id, texts_hash(texts)
        label_id = make_label_id(kind, name, method, model, call.prompt_version, examples_hash)
        self.all_labels.append({
            "label_id": label_id, "target_kind": kind, "target_id": name, "layer": evidence.layer,
            "feature": evidence.feature if kind == "feature" else None, "label": answer.label,
            "description": answer.description, "kind": answer.kind,
            "method": method, "model": model, "prompt_version": call.prompt_version,
            "request_hash": outcome.request_hash, "examples_hash": examples_hash, "confidence": confidence,
            "provenance": f"{model}, from {len(texts)} texts: {answer.reasoning}", "created_at": datetime.now(UTC),
        })  # fmt: skip
        self.label_splits += split_rows(label_id, "explain", [text.document_id for text in texts])
        kept = self.features if kind == "feature" else self.directions
        kept[evidence.key] = FeatureLabel(
            label_id=label_id, key=evidence.key, method=method, label=answer.label, description=answer.description,
            activation_frequency=evidence.activation_frequency, texts=tuple(texts),
        )  # fmt: skip

    def fail(self, method: str, target: str, outcome: Outcome[Any]) -> None:
        """A call without an answer."""
        self._failure(method, target, outcome.error_class or outcome.status, outcome.message or outcome.status)

    def skip(self, method: str, target: str, reason: str) -> None:
        """What could not be asked."""
        self._failure(method, target, "skipped", reason)

    def _failure(self, method: str, target: str, error_class: str, message: str) -> None:
        item_id = f"{method} {target}"
        if any(row["item_id"] == item_id for row in self.failures):
            return  # a step that is taken twice, as tests are after a deep look, says so once
        self.failures.append({
            "stage": "label", "item_id": item_id, "error_class": error_class, "message": message, "attempts": 1,
        })  # fmt: skip


def texts_hash(texts: Sequence[Text]) -> str:
    """16 hex digits over the documents and tokens of some texts, in their order."""
    return hashed(*(part for text in texts for part in (text.document_id, *text.tokens)))[:16]


def split_rows(label_id: str, split: str, documents: Sequence[str]) -> list[Row]:
    """Rows of `label_splits`: each document once, with how many texts of it were used."""
    return [
        {"label_id": label_id, "document_id": document_id, "split": split, "n_texts": documents.count(document_id)}
        for document_id in sorted(set(documents))
    ]
