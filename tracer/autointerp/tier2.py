"""Tier 2: labels of a stratified sample are tested on texts that their author never saw, beside their nulls."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from tracer.autointerp.choosing import other_feature, stratified
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.feature_evidence import RANDOM_DIRECTION, FeatureEvidence, FeatureKey
from tracer.autointerp.labeller import feature_id
from tracer.autointerp.rows import FeatureLabel, split_rows
from tracer.autointerp.scoring.asking import N_INTRUDER_TRIALS, Effect, ScoringTexts, ask, choose_scoring_texts, lacking
from tracer.autointerp.scoring.promoted import PromotedTokens
from tracer.autointerp.scoring.questions import Answers, Question, Subject
from tracer.autointerp.scoring.rows import majority_rows, missing_row, score_rows
from tracer.autointerp.splits import check_apart, held_out
from tracer.autointerp.stage import Stage
from tracer.autointerp.tier1 import calls_about, keep_answers
from tracer.config.labels import LabelConfig

WITHOUT_LABEL = "intruder"
"""The scorer that asks without any label, so that another label is no null of it."""
IN_PROMPTS = "output_ablation"
"""The scorer that needs a place in the graphs of a run, which a random direction has not."""
MEASURES = {"intruder": "accuracy", "simulation": "correlation"}
Effects = Callable[[Sequence[FeatureKey]], Mapping[FeatureKey, Effect]]
"""Gives, for features, what ablating them does to next tokens; a feature without a measured effect is absent."""
Directions = Callable[[Mapping[FeatureKey, float]], Sequence[FeatureEvidence]]
"""Gives, for features and how often each is active, evidence about a random direction for each."""
Tests = Iterator[tuple[Call[Any], Question]]


def score_labels(
    stage: Stage,
    measure_effects: Effects | None = None,
    measure_directions: Directions | None = None,
    *,
    only: Iterable[FeatureKey] = (),
) -> None:
    """Test labels of this stage and keep scores, nulls and the documents that were used.

    Args:
        stage: with the labels.
        measure_effects: what ablations do; needed for the scorer `output_ablation` alone.
        measure_directions: what random directions do; without it there is no such null.
        only: test these, in place of a sample.
    """
    labels = stage.rows.features
    frequencies = {key: label.activation_frequency for key, label in labels.items()}
    chosen = [key for key in only if key in labels] or stratified(
        frequencies, stage.settings.n_scored, stage.settings.seed
    )
    effects = measure_effects(chosen) if measure_effects and IN_PROMPTS in stage.settings.scorers else {}
    directions: list[FeatureEvidence] = []
    if measure_directions and stage.settings.with_random_direction and chosen:
        directions = _labelled(stage, measure_directions({key: frequencies[key] for key in chosen}))
    n_others = len(chosen) * stage.settings.with_other_label
    tests = n_tests(stage.settings, n_labels=len(chosen), n_others=n_others, n_directions=len(directions))
    n_calls = sum(tests.values())
    answered: dict[tuple[Subject, str], list[tuple[Question, Outcome[Any]]]] = defaultdict(list)
    items = chain(_tests_of_features(stage, chosen, effects), _tests_of_directions(stage, directions))
    for _, question, outcome in stage.ask("scores", n_calls, items):
        answered[question.subject, question.scorer].append((question, outcome))
    for subject, scorer in sorted(answered, key=lambda key: (key[0].label_id, key[1], key[0].tested)):
        # in an order that does not depend on which answer came first
        trials = sorted(answered[subject, scorer], key=lambda trial: trial[0].call.messages[-1].content)
        answers, first = Answers(), trials[0][0]
        for question, outcome in trials:
            answers.add(question, outcome)
        stage.rows.label_scores += score_rows(first, answers, stage.model)
        if subject.tested == "label" and first.is_yes_or_no:
            stage.rows.label_scores += majority_rows(first)


def n_tests(settings: LabelConfig, *, n_labels: int, n_others: int, n_directions: int) -> dict[str, int]:
    """The most calls that each scorer makes.

    Args:
        settings: the scorers.
        n_labels: labels of features that are tested.
        n_others: other labels that are tested in their place.
        n_directions: labels of random directions that are tested.
    """
    found = {}
    for scorer in settings.scorers:
        n = n_labels + n_others * (scorer != WITHOUT_LABEL) + n_directions * (scorer != IN_PROMPTS)
        found[str(scorer)] = n * (N_INTRUDER_TRIALS if scorer == WITHOUT_LABEL else 1)
    return found


def _labelled(stage: Stage, directions: Sequence[FeatureEvidence]) -> list[FeatureEvidence]:
    """Ask what random directions are, with the calls that ask it of features; those that got a label."""
    calls = ((replace(call, stage=RANDOM_DIRECTION), asked) for call, asked in calls_about(stage, directions))
    keep_answers(stage, calls, n_calls=len(directions), step="labels of random directions")
    return [evidence for evidence in directions if evidence.key in stage.rows.directions]


def _tests_of_features(stage: Stage, keys: Sequence[FeatureKey], effects: Mapping[FeatureKey, Effect]) -> Tests:
    settings, labels = stage.settings, stage.rows.features
    frequencies = {key: label.activation_frequency for key, label in labels.items()}
    words = {key: label.words for key, label in labels.items()}
    promoted = PromotedTokens(stage.connection, stage.source, settings.seed)
    for evidence in stage.evidence(keys, method="score"):
        label = labels[evidence.key]
        subjects = [subject_of(label)]
        other = other_feature(evidence.key, frequencies, words, settings.seed) if settings.with_other_label else None
        if other is not None:
            subjects.append(subject_of(label, tested="other_label", words=words[other]))
        measured = {"output_logits": promoted.effect(evidence, other), IN_PROMPTS: effects.get(evidence.key)}
        yield from _tests(stage, settings.scorers, subjects, evidence, label, measured)


def _tests_of_directions(stage: Stage, directions: Sequence[FeatureEvidence]) -> Tests:
    """The label of each direction on its own texts, under the label of the feature that it is matched to."""
    scorers = [scorer for scorer in stage.settings.scorers if scorer != IN_PROMPTS]
    promoted = PromotedTokens(stage.connection, stage.source, stage.settings.seed)
    for evidence in directions:
        label = stage.rows.directions[evidence.key]
        subject = subject_of(stage.rows.features[evidence.key], tested=RANDOM_DIRECTION, words=label.words)
        measured = {"output_logits": promoted.effect(evidence, None)}
        yield from _tests(stage, scorers, [subject], evidence, label, measured)


def _tests(
    stage: Stage, scorers: Iterable[str], subjects: Sequence[Subject], evidence: FeatureEvidence, label: FeatureLabel,
    effects: Mapping[str, Effect | None],
) -> Tests:  # fmt: skip
    """All tests of some subjects on texts that the author of `label` did not see."""
    settings = stage.settings
    scoring = held_out(evidence.texts, label.texts)
    texts = choose_scoring_texts(scoring, settings.n_positives, settings.n_negatives, settings.seed)
    check_apart(label.texts, [*texts.active, *texts.inactive])
    for scorer in scorers:
        for question in _of_scorer(stage, scorer, subjects, evidence, texts, effects.get(scorer)):
            yield question.call, question
    used = [text.document_id for text in (*texts.active, *texts.inactive)]
    used += [document_id for effect in effects.values() if effect for document_id in effect.documents]
    stage.rows.label_splits += split_rows(label.label_id, "score", used)


def _of_scorer(
    stage: Stage, scorer: str, subjects: Sequence[Subject], evidence: FeatureEvidence, texts: ScoringTexts,
    effect: Effect | None,
) -> Iterator[Question]:  # fmt: skip
    for subject in subjects[: 1 if scorer == WITHOUT_LABEL else None]:
        reason = lacking(scorer, texts, effect)
        if reason is None:
            yield from ask(scorer, subject, evidence, texts, effect, stage.settings.seed)
        else:
            measure = MEASURES.get(scorer, "balanced_accuracy")
            stage.rows.label_scores.append(missing_row(subject, scorer, measure, reason))


def subject_of(label: FeatureLabel, *, tested: str = "label", words: str | None = None) -> Subject:
    """Whose words are tested on a feature.

    Args:
        label: the feature's own label.
        tested: what is tested in its place.
        words: the words of that.
    """
    return Subject(
        label_id=label.label_id, target_id=feature_id(*label.key), layer=label.key[0], feature=label.key[1],
        method=label.method, tested=tested, words=label.words if words is None else words,
    )  # fmt: skip
