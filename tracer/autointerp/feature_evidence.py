"""What a language model is told of features, out of a run's tables and, where there is one, a harvest's."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tracer.autointerp.labeller import feature_id
from tracer.autointerp.roles import Role, read_roles
from tracer.autointerp.texts import FeatureText, separator
from tracer.tables.database import Connection

FeatureKey = tuple[int, int]
"""Layer and index."""
RANDOM_DIRECTION = "random_direction"
"""What stands in a feature's place where its label is beside that of a random direction."""
WANTED = "(SELECT unnest($layers) AS layer, unnest($features) AS feature)"
N_TOKENS = 12
"""Tokens shown that it fires on, and as many that it fires after."""

FEATURES_SQL = """
SELECT layer, feature, n_firings, activation_frequency, activation_max,
    top_tokens, top_token_logits, bottom_tokens, bottom_token_logits
FROM {schema}features JOIN {wanted} USING (layer, feature)
"""
TOKENS_SQL = """
WITH counted AS (
    SELECT layer, feature, fired.token, fired.n_at, held.n_at AS n_all_at, fired.n_before, held.n_before AS n_all_before
    FROM {schema}feature_tokens AS fired JOIN {wanted} USING (layer, feature)
    JOIN {schema}token_counts AS held USING (token_id)
)
SELECT layer, feature, place, token, n, n_all FROM (
    SELECT layer, feature, 'at' AS place, token, n_at AS n, n_all_at AS n_all FROM counted
    UNION ALL
    SELECT layer, feature, 'before', token, n_before, n_all_before FROM counted
) WHERE n > 0
QUALIFY row_number() OVER (PARTITION BY layer, feature, place ORDER BY n DESC, token) <= $n_tokens
ORDER BY layer, feature, place, n DESC, token
"""
HARVEST_EXAMPLES_SQL = """
SELECT layer, feature, document_id, split, kind, window_tokens, window_activations, pos - window_start
FROM {schema}examples JOIN {wanted} USING (layer, feature)
ORDER BY layer, feature, kind, quantile, rank, document_id
"""
RUN_EXAMPLES_SQL = """
SELECT layer, feature, prompt_id, split, 'top', window_tokens, window_activations, pos - window_start
FROM examples JOIN {wanted} USING (layer, feature) ORDER BY layer, feature, rank
"""
SEPARATOR_SQL = "SELECT token FROM {schema}token_counts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where texts and counts come from: the run itself, or a harvest that is attached as `harvest`."""

    is_harvest: bool
    between: str
    """What stands between two tokens of a readable text."""

    def sql(self, text: str) -> str:
        """A query of this module for this source."""
        return text.format(schema="harvest." if self.is_harvest else "", wanted=WANTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEvidence:
    """All that is told of a feature; `fires_on` and `fires_after` are (token, firings, positions where it could),
    `promoted` and `suppressed` (token, logit per unit of activation). `texts` are of both splits. Of another
    `target_kind` than feature it is about what stands in that feature's place.
    """

    target_kind: str = "feature"
    layer: int
    feature: int
    n_firings: int
    activation_frequency: float
    activation_max: float
    fires_on: tuple[tuple[str, int, int], ...]
    fires_after: tuple[tuple[str, int, int], ...]
    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]
    texts: tuple[FeatureText, ...]
    role: Role | None
    between: str

    @property
    def key(self) -> FeatureKey:
        """Layer and index."""
        return self.layer, self.feature

    @property
    def target(self) -> str:
        """What calls are filed under, such as feature/0/12; no part of what is asked."""
        return f"{self.target_kind}/{self.layer}/{self.feature}"

    @property
    def target_id(self) -> str:
        """The name in tables: L0/12 for a feature."""
        return feature_id(*self.key) if self.target_kind == "feature" else self.target


def source_of(connection: Connection, *, has_harvest: bool) -> Source:
    """The source, and how its tokens are joined."""
    schema = "harvest." if has_harvest else ""
    tokens = [token for (token,) in connection.execute(SEPARATOR_SQL.format(schema=schema)).fetchall()]
    return Source(is_harvest=has_harvest, between=separator(tokens))


def read_features(
    connection: Connection, source: Source, keys: Sequence[FeatureKey], *, n_circuit_examples: int = 0
) -> list[FeatureEvidence]:
    """Evidence about some features, in their order; those that never fired are left out.

    Args:
        connection: to the run's results file, a harvest attached where `source` says so.
        source: where texts and counts come from.
        keys: the features.
        n_circuit_examples: prompts by feature that are shown with what the feature reads there.
    """
    wanted: dict[str, Any] = {"layers": [layer for layer, _ in keys], "features": [feature for _, feature in keys]}
    tokens: dict[tuple[FeatureKey, str], list[tuple[str, int, int]]] = defaultdict(list)
    for layer, feature, place, *counts in connection.execute(
        source.sql(TOKENS_SQL), wanted | {"n_tokens": N_TOKENS}
    ).fetchall():
        tokens[(layer, feature), place].append(tuple(counts))
    texts = read_texts(connection, source, keys)
    roles = read_roles(connection, keys, n_examples=n_circuit_examples)
    found = {}
    for layer, feature, n_firings, frequency, largest, *effects in connection.execute(
        source.sql(FEATURES_SQL), wanted
    ).fetchall():
        key = (layer, feature)
        if not n_firings:
            continue
        found[key] = FeatureEvidence(
            layer=layer,
            feature=feature,
            n_firings=n_firings,
            activation_frequency=frequency or 0.0,
            activation_max=largest or 0.0,
            fires_on=tuple(tokens[key, "at"]),
            fires_after=tuple(tokens[key, "before"]),
            promoted=tuple(zip(effects[0] or (), effects[1] or (), strict=True)),
            suppressed=tuple(zip(effects[2] or (), effects[3] or (), strict=True)),
            texts=tuple(texts[key]),
            role=roles.get(key),
            between=source.between,
        )
    return [found[key] for key in keys if key in found]


def read_texts(
    connection: Connection, source: Source, keys: Sequence[FeatureKey]
) -> dict[FeatureKey, list[FeatureText]]:
    """The stored texts of some features, strongest first within each kind."""
    wanted = {"layers": [layer for layer, _ in keys], "features": [feature for _, feature in keys]}
    texts = defaultdict(list)
    query = source.sql(HARVEST_EXAMPLES_SQL if source.is_harvest else RUN_EXAMPLES_SQL)
    for layer, feature, document_id, split, kind, tokens, activations, peak_idx in connection.execute(
        query, wanted
    ).fetchall():
        texts[layer, feature].append(
            FeatureText(
                document_id=document_id, split=split, kind=kind, tokens=tuple(tokens),
                activations=tuple(value or 0.0 for value in activations), peak_idx=peak_idx,
            )
        )  # fmt: skip
    return texts
