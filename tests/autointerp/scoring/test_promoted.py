"""Tokens that a feature promotes, and decoys that are their like to any label but its own."""

from collections.abc import Iterator

import duckdb
import numpy as np
import pytest

from tracer.autointerp.choosing import other_feature
from tracer.autointerp.explaining import N_EFFECTS
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey, Source
from tracer.autointerp.scoring.promoted import PromotedTokens

N_FEATURES, N_PROMOTED, N_VOCABULARY = 120, 20, 400
SOURCE = Source(is_harvest=False, between=" ")
Features = dict[FeatureKey, tuple[float, list[str]]]


@pytest.fixture(scope="module")
def features() -> Features:
    """Activation frequency and promoted tokens; some tokens are promoted by many features, those that fire often more
    than others.
    """
    rng = np.random.default_rng(0)
    found: Features = {}
    for feature in range(N_FEATURES):
        frequency = float(rng.random())
        popularity = np.arange(1, N_VOCABULARY + 1) ** -(0.5 + frequency)
        drawn = rng.choice(N_VOCABULARY, N_PROMOTED, replace=False, p=popularity / popularity.sum())
        found[0, feature] = (frequency, [f"t{token}" for token in drawn])
    return found


@pytest.fixture
def promoted(features: Features) -> Iterator[PromotedTokens]:
    """What reads them."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE features (layer INT, feature INT, activation_frequency DOUBLE, top_tokens TEXT[], "
            "top_token_logits DOUBLE[])"
        )
        rows = [[*key, *of_key, [1.0] * N_PROMOTED] for key, of_key in features.items()]
        connection.executemany("INSERT INTO features VALUES (?, ?, ?, ?, ?)", rows)
        yield PromotedTokens(connection, SOURCE, seed=0)


def evidence_of(features: Features, key: FeatureKey) -> FeatureEvidence:
    frequency, tokens = features[key]
    return FeatureEvidence(
        layer=key[0], feature=key[1], n_firings=1, activation_frequency=frequency, activation_max=1.0, fires_on=(),
        fires_after=(), promoted=tuple((token, 1.0) for token in tokens), suppressed=(), texts=(), role=None,
        between=" ",
    )  # fmt: skip


def test_decoys_are_what_one_other_feature_promotes_and_it_does_not(
    features: Features, promoted: PromotedTokens
) -> None:
    for key, (_, tokens) in features.items():
        effect = promoted.effect(evidence_of(features, key), None)
        assert effect is not None
        assert len(effect.raised) == len(effect.left_alone) == len(set(effect.left_alone)) > 0
        assert set(effect.raised) <= set(tokens[N_EFFECTS:])
        assert any(set(effect.left_alone) <= set(others[N_EFFECTS:]) for _, others in features.values())
        assert not set(effect.left_alone) & set(tokens)


def test_to_the_label_of_another_feature_tokens_and_decoys_are_alike(
    features: Features, promoted: PromotedTokens
) -> None:
    frequencies = {key: frequency for key, (frequency, _) in features.items()}
    words = {key: str(key) for key in features}
    differences = []
    for key in features:
        for seed in range(20):
            other = other_feature(key, frequencies, words, seed)
            assert other is not None
            effect = promoted.effect(evidence_of(features, key), other)
            assert effect is not None
            fits = set(features[other][1])
            fit = [np.mean([token in fits for token in tokens]) for tokens in (effect.raised, effect.left_alone)]
            differences.append((key, fit[0] - fit[1]))
    of_key = [np.mean([value for at, value in differences if at == key]) for key in features]
    error = np.std(of_key) / np.sqrt(len(of_key))
    assert abs(np.mean(of_key)) < 2 * error
    assert error < 0.02
