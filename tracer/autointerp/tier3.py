"""Tier 3: several drafts of a label, each from other texts, then one that settles them against near misses."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tracer.autointerp.answers import FeatureAnswer, SettledAnswer
from tracer.autointerp.choosing import parse_features
from tracer.autointerp.client.calls import Call
from tracer.autointerp.explaining import choose_texts, settle_call
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey
from tracer.autointerp.labeller import feature_id
from tracer.autointerp.scoring.measures import hashed
from tracer.autointerp.splits import Text, part
from tracer.autointerp.stage import Stage
from tracer.autointerp.tier1 import Asked, explain_calls
from tracer.errors import ConfigError

METHOD = "llm_deep"


def look_deeper(stage: Stage) -> list[FeatureKey]:
    """Label the features of `deep` again; those that got a label.

    Raises:
        ConfigError: a name of another form than L0/12.
    """
    try:
        keys = list(dict.fromkeys(parse_features(stage.settings.deep)))
    except ValueError as error:
        raise ConfigError(
            "labels.deep", found=", ".join(stage.settings.deep), expected="names such as L0/12", to_do="Mend it."
        ) from error
    drafts: dict[FeatureKey, list[FeatureAnswer]] = defaultdict(list)
    seen: dict[FeatureKey, list[Text]] = defaultdict(list)
    about: dict[FeatureKey, FeatureEvidence] = {}
    n_calls = len(keys) * stage.settings.n_drafts
    for call, (evidence, texts), outcome in stage.ask("drafts", n_calls, _drafts(stage, keys)):
        about[evidence.key] = evidence
        if outcome.is_ok and isinstance(outcome.parsed, FeatureAnswer):
            drafts[evidence.key].append(outcome.parsed)
            seen[evidence.key] += texts
        else:
            stage.rows.fail(METHOD, f"{feature_id(*evidence.key)} draft {call.parameters.draw}", outcome)
    for answers in drafts.values():
        answers.sort(key=lambda answer: (answer.label, answer.description))
    items = _settling(stage, about, drafts, seen)
    for call, (evidence, texts), outcome in stage.ask("settled", len(drafts), items):
        if outcome.is_ok and isinstance(outcome.parsed, SettledAnswer):
            answer, n_drafts = outcome.parsed, len(drafts[evidence.key])
            stage.rows.keep_feature(
                evidence, texts, call, outcome, answer, method=METHOD, model=stage.model,
                confidence=min(answer.n_agreeing, n_drafts) / n_drafts,
            )  # fmt: skip
        else:
            stage.rows.fail(METHOD, feature_id(*evidence.key), outcome)
    return [key for key in keys if key in stage.rows.features and stage.rows.features[key].method == METHOD]


def _drafts(stage: Stage, keys: list[FeatureKey]) -> Iterator[tuple[Call[Any], Asked]]:
    for draw in range(1, stage.settings.n_drafts + 1):
        for call, asked in explain_calls(stage, keys, draw=draw):
            # where there are few texts, two drafts may be asked the same: each is an answer of its own
            yield replace(call, stage="draft", parameters=replace(call.parameters, draw=draw)), asked


def _settling(
    stage: Stage,
    about: dict[FeatureKey, FeatureEvidence],
    drafts: dict[FeatureKey, list[FeatureAnswer]],
    seen: dict[FeatureKey, list[Text]],
) -> Iterator[tuple[Call[Any], Asked]]:
    n, seed = stage.settings.n_examples, stage.settings.seed
    for key, answers in drafts.items():
        evidence = about[key]
        explaining, _ = part(evidence.texts)
        active = choose_texts(explaining, n, seed=seed)
        inactive = sorted(
            (text for text in explaining if not text.is_active),
            key=lambda text: (text.kind != "near_miss", hashed(seed, text.document_id)),
        )[:n]
        shown = {(text.document_id, text.tokens): text for text in [*seen[key], *active, *inactive]}
        # answers come in any order, and the label's identity follows from that of its texts
        yield settle_call(evidence, answers, active, inactive), (evidence, [shown[name] for name in sorted(shown)])
