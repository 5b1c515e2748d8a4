"""What a feature promotes by its logits, beside tokens that others of its layer promote and it does not."""

from functools import cache

from tracer.autointerp.explaining import N_EFFECTS
from tracer.autointerp.feature_evidence import FeatureEvidence
from tracer.autointerp.scoring.asking import N_OUTPUT_TOKENS, Effect
from tracer.autointerp.scoring.measures import generator
from tracer.autointerp.stage import Stage

N_DRAWN = 32
"""Draws for each token that is to be left alone: some are drawn twice, some are the feature's own."""
TOKENS_SQL = "SELECT unnest(top_tokens) AS token FROM {schema}features WHERE layer = $layer ORDER BY feature"


class PromotedTokens:
    """Reads what the features of a layer promote, each layer once."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._of_layer = cache(self._read)

    def effect(self, evidence: FeatureEvidence) -> Effect | None:
        """A feature's promoted tokens, those that the label's author was shown left out, and decoys; None where there
        are none.

        A token that more features promote is likelier to be a decoy, as it is likelier to fit any other label.

        Args:
            evidence: the feature.
        """
        raised = tuple(token for token, logit in evidence.promoted[N_EFFECTS:] if logit > 0)[:N_OUTPUT_TOKENS]
        tokens = self._of_layer(evidence.layer)
        if not raised or not tokens:
            return None
        own = {token for token, _ in evidence.promoted}
        rng = generator(f"{self._stage.settings.seed}|decoys|{evidence.layer}|{evidence.feature}")
        drawn = (tokens[place] for place in rng.integers(len(tokens), size=N_DRAWN * len(raised)))
        decoys = dict.fromkeys(token for token in drawn if token not in own)
        return Effect(raised=raised, left_alone=tuple(decoys)[: len(raised)])

    def _read(self, layer: int) -> list[str]:
        rows = self._stage.connection.execute(self._stage.source.sql(TOKENS_SQL), {"layer": layer}).fetchall()
        return [token for (token,) in rows]
