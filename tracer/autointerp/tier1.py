"""Tier 1: one call for each feature that carries a stated share of the influence in circuits."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tracer.autointerp.answers import FeatureAnswer
from tracer.autointerp.choosing import circuit_features
from tracer.autointerp.client.calls import Call
from tracer.autointerp.explaining import choose_texts, explain_call
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey
from tracer.autointerp.splits import Text, part
from tracer.autointerp.stage import Stage

METHOD = "llm"
Asked = tuple[FeatureEvidence, list[Text]]


def label_features(stage: Stage) -> None:
    """Ask for the labels of the features that carry `influence_share`, and keep them."""
    keys = features_to_label(stage)
    keep_answers(stage, explain_calls(stage, keys), n_calls=len(keys))


def keep_answers(
    stage: Stage, items: Iterable[tuple[Call[Any], Asked]], *, n_calls: int = 0, step: str = "labels"
) -> None:
    """Ask calls of `explain_calls`, and keep the labels.

    Args:
        stage: the run; the labels go into its rows.
        items: the calls.
        n_calls: how many they are.
        step: what they are called while they are asked.
    """
    for call, (evidence, texts), outcome in stage.ask(step, n_calls, items):
        if outcome.is_ok and isinstance(outcome.parsed, FeatureAnswer):
            stage.rows.keep_feature(evidence, texts, call, outcome, outcome.parsed, method=METHOD, model=stage.model)
        else:
            stage.rows.fail(METHOD, evidence.target_id, outcome)


def features_to_label(stage: Stage) -> list[FeatureKey]:
    """Those of tier 1, most influence first."""
    settings = stage.settings
    return circuit_features(
        stage.connection, share=settings.influence_share, max_features=settings.max_features,
        keep_given=settings.keep_imported,
    )  # fmt: skip


def explain_calls(stage: Stage, keys: Sequence[FeatureKey], *, draw: int = 0) -> Iterator[tuple[Call[Any], Asked]]:
    """The calls that ask what features are, each with the feature and all texts that the model is shown of it.

    Args:
        stage: the run and the settings.
        keys: the features.
        draw: which choice of texts.
    """
    about = stage.evidence(keys, method=METHOD, n_circuit_examples=stage.settings.n_circuit_examples)
    return calls_about(stage, about, draw=draw)


def calls_about(stage: Stage, about: Iterable[FeatureEvidence], *, draw: int = 0) -> Iterator[tuple[Call[Any], Asked]]:
    """As `explain_calls`, of evidence that is read already.

    Args:
        stage: the run and the settings.
        about: the evidence.
        draw: which choice of texts.
    """
    known, settings = stage.rule_labels(), stage.settings
    for evidence in about:
        explaining, _ = part(evidence.texts)
        texts = choose_texts(explaining, settings.n_examples, draw=draw, seed=settings.seed)
        of_circuits = evidence.role.texts if evidence.role else ()
        yield explain_call(evidence, texts, known), (evidence, [*texts, *of_circuits])
