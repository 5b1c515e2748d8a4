"""Tier 2: labels of a stratified sample are tested on texts that their author never saw, beside their nulls."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tracer.autointerp.choosing import other_feature, stratified
from tracer.autointerp.client.calls import Call, Outcome
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey
from tracer.autointerp.labeller import feature_id
from tracer.autointerp.rows import FeatureLabel, split_rows
from tracer.autointerp.scoring.asking import N_INTRUDER_TRIALS, Effect, ScoringTexts, ask, choose_scoring_texts, lacking
from tracer.autointerp.scoring.promoted import PromotedTokens
from tracer.autointerp.scoring.questions import Answers, Question, Subject
from tracer.autointerp.scoring.rows import majority_rows, missing_row, score_rows
from tracer.autointerp.splits import check_apart, held_out
from tracer.autointerp.stage import Stage
from tracer.config.labels import LabelConfig

WITHOUT_LABEL = "intruder"
"""The scorer that asks without any label, so that another label is no null of it."""
MEASURES = {"intruder": "accuracy", "simulation": "correlation"}
Effects = Callable[[Sequence[FeatureKey]], Mapping[FeatureKey, Effect]]
"""Gives, for features, what ablating them does to next tokens; a feature without a measured effect is absent."""


def score_labels(stage: Stage, measure_effects: Effects | None = None, *, only: Iterable[FeatureKey] = ()) -> None:
    """Test labels of this stage and keep scores, nulls and the documents that were used.

    Args:
        stage: with the labels.
        measure_effects: what ablations do; needed for the scorer `output_ablation` alone.
        only: test these, in place of a sample.
    """
    labels = stage.rows.features
    frequencies = {key: label.activation_frequency for key, label in labels.items()}
    chosen = [key for key in only if key in labels] or stratified(
        frequencies, stage.settings.n_scored, stage.settings.seed
    )
    effects = measure_effects(chosen) if measure_effects and "output_ablation" in stage.settings.scorers else {}
    n_calls = len(chosen) * sum(n_calls_of(scorer, stage.settings) for scorer in stage.settings.scorers)
    answered: dict[tuple[Subject, str], list[tuple[Question, Outcome[Any]]]] = defaultdict(list)
    items = _questions(stage, chosen, effects)
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


def n_calls_of(scorer: str, settings: LabelConfig) -> int:
    """The most calls that a scorer makes for one label, nulls included.

    Args:
        scorer: which test.
        settings: whether another label is tested too.
    """
    if scorer == WITHOUT_LABEL:
        return N_INTRUDER_TRIALS
    return 2 if settings.with_other_label else 1


def _questions(
    stage: Stage, keys: Sequence[FeatureKey], effects: Mapping[FeatureKey, Effect]
) -> Iterator[tuple[Call[Any], Question]]:
    settings, labels = stage.settings, stage.rows.features
    frequencies = {key: label.activation_frequency for key, label in labels.items()}
    words = {key: label.words for key, label in labels.items()}
    promoted = PromotedTokens(stage)
    for evidence in stage.evidence(keys, method="score"):
        label = labels[evidence.key]
        scoring = held_out(evidence.texts, label.texts)
        texts = choose_scoring_texts(scoring, settings.n_positives, settings.n_negatives, settings.seed)
        check_apart(label.texts, [*texts.active, *texts.inactive])
        subjects = [subject_of(label)]
        other = other_feature(evidence.key, frequencies, words, settings.seed) if settings.with_other_label else None
        if other is not None:
            subjects.append(subject_of(label, tested="other_label", words=words[other]))
        used = [text.document_id for text in (*texts.active, *texts.inactive)]
        for scorer in settings.scorers:
            effect = effects.get(evidence.key)
            if scorer == "output_logits":
                effect = promoted.effect(evidence)
            for question in _of_scorer(stage, scorer, subjects, evidence, texts, effect):
                yield question.call, question
        used += effects[evidence.key].documents if evidence.key in effects else ()
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
