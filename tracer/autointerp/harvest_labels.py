"""Tier 0 over a harvest: rules for every feature that fired, whether or not any graph holds it."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from tracer.autointerp.feature_evidence import WANTED, FeatureKey, Source, read_texts
from tracer.autointerp.labeller import Evidence, Label, TokenEvidence
from tracer.autointerp.rules import RuleLabeller, best_rule, label_by
from tracer.autointerp.run_labels import label_row
from tracer.autointerp.sampled_rules import Background, sampled_context_rule
from tracer.autointerp.texts import FeatureText
from tracer.tables.database import Connection

METHOD = "rule_harvest"
FEATURES_AT_ONCE = 512
FIRED_SQL = "SELECT layer, feature FROM harvest.features WHERE n_firings > 0 ORDER BY layer, feature"
BACKGROUND_SQL = """
SELECT any_value(window_tokens) FROM harvest.examples WHERE kind = 'random' AND split = $split
GROUP BY document_id ORDER BY document_id
"""
FEATURES_SQL = f"""
SELECT layer, feature, n_firings, activation_frequency, activation_mean, activation_max,
    top_tokens, top_token_logits, bottom_tokens, bottom_token_logits
FROM harvest.features JOIN {WANTED} USING (layer, feature) ORDER BY layer, feature
"""
TOKENS_SQL = f"""
SELECT layer, feature, fired.token, fired.n_at, fired.n_before, held.n_at, held.n_before
FROM harvest.feature_tokens AS fired JOIN {WANTED} USING (layer, feature)
JOIN harvest.token_counts AS held USING (token_id)
ORDER BY layer, feature, token_id
"""
NOBODY = np.zeros(0, dtype=np.int64)


def harvest_rows(connection: Connection, source: Source) -> Iterator[list[dict[str, Any]]]:
    """Rows of `all_labels` for every feature that fired in the attached harvest, a batch at a time.

    Rules on tokens and on the tokens before are counted over all positions; where a rule on tokens anywhere before
    does better on stored samples, it is taken, with its intervals.

    Args:
        connection: to a results file with a harvest attached.
        source: that harvest.
    """
    explaining, scoring = (_background(connection, split) for split in ("explain", "score"))
    coming = iter(connection.execute(FIRED_SQL).fetchall())
    while keys := list(islice(coming, FEATURES_AT_ONCE)):
        texts = read_texts(connection, source, keys)
        yield [
            label_row(_label(evidence, texts[evidence.layer, evidence.feature], explaining, scoring), METHOD)
            for evidence in _read(connection, keys)
        ]


def _background(connection: Connection, split: str) -> Background:
    rows = connection.execute(BACKGROUND_SQL, {"split": split}).fetchall()
    return Background(tokens for (tokens,) in rows)


def _label(evidence: Evidence, texts: Sequence[FeatureText], explaining: Background, scoring: Background) -> Label:
    counted = best_rule(evidence)
    sampled = sampled_context_rule(texts, evidence.activation_frequency, explaining, scoring)
    is_sampled = sampled is not None and (counted is None or sampled.f1 > counted.f1)
    how = (
        "precision and recall estimated on stored texts by which the rule was not chosen"
        if is_sampled
        else f"precision and recall over all {evidence.n_firings} firings, by which the rule was also chosen"
    )
    provenance = f"rule labeller {RuleLabeller.version}, no language model, from a harvest; {how}"
    return label_by(sampled if is_sampled else counted, evidence, provenance)


def _read(connection: Connection, keys: Sequence[FeatureKey]) -> list[Evidence]:
    wanted = {"layers": [layer for layer, _ in keys], "features": [feature for _, feature in keys]}
    tokens: dict[FeatureKey, list[TokenEvidence]] = defaultdict(list)
    for layer, feature, token, fired_at, fired_before, n_at, n_before in connection.execute(
        TOKENS_SQL, wanted
    ).fetchall():
        tokens[layer, feature].append(
            TokenEvidence(
                token=token, fired_at=fired_at, fired_before=fired_before, fired_context=0, n_at=n_at,
                n_before=n_before, n_context=0, prompts=NOBODY,
            )
        )  # fmt: skip
    return [_evidence(row, tokens[row[0], row[1]]) for row in connection.execute(FEATURES_SQL, wanted).fetchall()]


def _evidence(row: Sequence[Any], tokens: Sequence[TokenEvidence]) -> Evidence:
    layer, feature, n_firings, frequency, mean, largest, *effects = row
    top, top_logits, bottom, bottom_logits = effects
    return Evidence(
        layer=layer,
        feature=feature,
        support=0,
        n_firings=n_firings,
        activation_frequency=frequency or 0.0,
        activation_mean=mean,
        activation_max=largest,
        tokens=tuple(tokens),
        promoted=tuple(zip(top or (), top_logits or (), strict=True)),
        suppressed=tuple(zip(bottom or (), bottom_logits or (), strict=True)),
        examples=(),
    )
