"""What an export asks of results.duckdb about features: one layer, and of it one batch, at a time."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracer.tables.database import Connection
from tracer.views.exports.activation_distribution import ActivationDistribution, activation_distribution

FEATURES_AT_ONCE = 512

FEATURES_SQL = """
SELECT feature, activation_frequency, activation_max,
    top_tokens, top_token_logits, bottom_tokens, bottom_token_logits
FROM features WHERE layer = $layer AND feature > $after ORDER BY feature LIMIT $n
"""
BINS_SQL = """
SELECT feature, is_negative, bin, n FROM feature_activation_hist
WHERE layer = $layer AND feature BETWEEN $first AND $last ORDER BY feature, is_negative, bin
"""
EXAMPLES_SQL = """
SELECT feature, prompt_id, pos, window_tokens, window_activations, pos - window_start FROM examples
WHERE layer = $layer AND feature BETWEEN $first AND $last AND isfinite(activation)
    AND len(list_filter(window_activations, lambda value: NOT isfinite(value))) = 0
ORDER BY feature, rank
"""
LABELS_SQL = """
SELECT feature, method, label, description, provenance FROM all_labels
WHERE target_kind = 'feature' AND layer = $layer AND feature BETWEEN $first AND $last
QUALIFY row_number() OVER (PARTITION BY feature, method ORDER BY is_current DESC, created_at DESC, label_id) = 1
ORDER BY feature, method
"""

Effects = tuple[tuple[str, float], ...]
"""Tokens with the logit that a unit of activation adds to each, strongest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleReading:
    """A window of a prompt; its largest activation is at `pos` of the prompt and at `peak_idx` of the window."""

    prompt_id: str
    pos: int
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak_idx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelReading:
    """What one labelling method wrote."""

    method: str
    label: str
    description: str
    provenance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReading:
    """A row of `features` with its bins, examples (strongest first) and labels; None stands where nothing was
    measured.
    """

    layer: int
    feature: int
    activation_frequency: float | None
    distribution: ActivationDistribution | None
    promoted: Effects | None
    suppressed: Effects | None
    examples: tuple[ExampleReading, ...]
    labels: tuple[LabelReading, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSizes:
    """How many rows the tables of an export have."""

    n_layers: int
    n_features: int
    n_examples: int


def read_sizes(connection: Connection) -> TableSizes:
    """The sizes of the tables that `read_layer` reads, all layers together."""
    sql = "SELECT n_layers, (SELECT count(*) FROM features), (SELECT count(*) FROM examples) FROM runs"
    n_layers, n_features, n_examples = connection.execute(sql).fetchall()[0]
    return TableSizes(n_layers=n_layers, n_features=n_features, n_examples=n_examples)


def read_layer(connection: Connection, layer: int) -> Iterator[list[FeatureReading]]:
    """The features of a layer in ascending order, in batches of at most `FEATURES_AT_ONCE`.

    Examples with an activation that is no finite number are left out.
    """
    after = -1
    while True:
        wanted = {"layer": layer, "after": after, "n": FEATURES_AT_ONCE}
        rows = connection.execute(FEATURES_SQL, wanted).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        yield _read_batch(connection, layer, rows)


def _read_batch(connection: Connection, layer: int, rows: list[tuple[Any, ...]]) -> list[FeatureReading]:
    span = {"layer": layer, "first": rows[0][0], "last": rows[-1][0]}
    bins, examples, labels = defaultdict(list), defaultdict(list), defaultdict(list)
    for feature, *row in connection.execute(BINS_SQL, span).fetchall():
        bins[feature].append(tuple(row))
    for feature, prompt_id, pos, tokens, activations, peak_idx in connection.execute(EXAMPLES_SQL, span).fetchall():
        examples[feature].append(
            ExampleReading(
                prompt_id=prompt_id,
                pos=pos,
                tokens=tuple(tokens),
                activations=tuple(activations),
                peak_idx=peak_idx,
            )
        )
    for feature, method, label, description, provenance in connection.execute(LABELS_SQL, span).fetchall():
        labels[feature].append(LabelReading(method=method, label=label, description=description, provenance=provenance))
    return [
        FeatureReading(
            layer=layer,
            feature=feature,
            activation_frequency=frequency,
            distribution=activation_distribution(bins[feature], largest),
            promoted=_effects(top, top_logits),
            suppressed=_effects(bottom, bottom_logits),
            examples=tuple(examples[feature]),
            labels=tuple(labels[feature]),
        )
        for feature, frequency, largest, top, top_logits, bottom, bottom_logits in rows
    ]


def _effects(tokens: list[str] | None, logits: list[float] | None) -> Effects | None:
    return None if tokens is None or logits is None else tuple(zip(tokens, logits, strict=True))
