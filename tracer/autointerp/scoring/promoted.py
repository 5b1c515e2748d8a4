"""What a feature promotes by its logits, beside tokens that others of its layer promote and it does not."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from tracer.autointerp.explaining import N_EFFECTS
from tracer.autointerp.feature_evidence import FeatureEvidence, FeatureKey, Source
from tracer.autointerp.scoring.asking import N_OUTPUT_TOKENS, Effect
from tracer.autointerp.scoring.measures import generator
from tracer.tables.database import Connection

N_NEAREST = 40
"""Features of the nearest activation frequencies that decoys come from."""
ENOUGH = N_OUTPUT_TOKENS // 2
"""Tokens of a decoy feature that suffice; one with fewer serves where no feature has more."""
TOKENS_SQL = """
SELECT feature, coalesce(activation_frequency, 0),
    [pair[1] FOR pair IN list_zip(top_tokens, top_token_logits) IF pair[2] > 0]
FROM {schema}features WHERE layer = $layer AND len(top_tokens) > 0 ORDER BY feature
"""


class _Promoting(NamedTuple):
    feature: int
    frequency: float
    tokens: tuple[str, ...]
    """Strongest first."""


class PromotedTokens:
    """Reads what the features of a layer promote, each layer once.

    Args:
        connection: to a results file, a harvest attached where `source` says so.
        source: where features are read from.
        seed: what decoys are drawn by.
    """

    def __init__(self, connection: Connection, source: Source, seed: int) -> None:
        self._connection, self._source, self._seed = connection, source, seed
        self._of_layer = cache(self._read)

    def effect(self, evidence: FeatureEvidence, other: FeatureKey | None) -> Effect | None:
        """A feature's promoted tokens, those that the label's author was shown left out, and as many decoys: tokens of
        the same ranks of one other feature, which fires about as often. None where there are none.

        Neither of the two promotes what is asked of the other, and the feature whose label is the null is not that
        other: to its label tokens and decoys are alike, so it is right half of the time.

        Args:
            evidence: the feature.
            other: the feature whose label is the null.
        """
        own = [token for token, logit in evidence.promoted if logit > 0]
        best: tuple[list[str], list[str]] = ([], [])
        for decoy in self._drawn(evidence, other):
            raised, left_alone = _beyond(own, decoy.tokens), _beyond(decoy.tokens, own)
            n = min(len(raised), len(left_alone))
            if n > len(best[0]):
                best = raised[:n], left_alone[:n]
            if n >= ENOUGH:
                break
        return Effect(raised=tuple(best[0]), left_alone=tuple(best[1])) if best[0] else None

    def _drawn(self, evidence: FeatureEvidence, other: FeatureKey | None) -> Iterator[_Promoting]:
        """Features of the nearest activation frequencies, in an order drawn by hash."""
        left_out = {evidence.key, other}
        others = [one for one in self._of_layer(evidence.layer) if (evidence.layer, one.feature) not in left_out]
        nearest = sorted(others, key=lambda one: abs(one.frequency - evidence.activation_frequency))[:N_NEAREST]
        rng = generator(f"{self._seed}|decoys|{evidence.layer}|{evidence.feature}")
        yield from (nearest[place] for place in rng.permutation(len(nearest)))

    def _read(self, layer: int) -> list[_Promoting]:
        rows = self._connection.execute(self._source.sql(TOKENS_SQL), {"layer": layer}).fetchall()
        return [_Promoting(feature, frequency, tuple(tokens)) for feature, frequency, tokens in rows]


def _beyond(tokens: Sequence[str], others: Sequence[str]) -> list[str]:
    """Tokens beyond those that a label's author is shown, without those of another feature."""
    return [token for token in tokens[N_EFFECTS:] if token not in others][:N_OUTPUT_TOKENS]
