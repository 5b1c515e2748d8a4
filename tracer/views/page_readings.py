"""What only the page asks of results.duckdb: histograms, the cards of single features, and the layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tracer.corpus.tokens import visible
from tracer.tables.database import query
from tracer.tables.neuronpedia_links import NeuronpediaSources, quick_list_url
from tracer.views.histogram import Bar, HistogramAxis, histogram_bars, shared_axis
from tracer.views.readings import BEST_LABEL
from tracer.views.records import FeatureRef

LAYERS = "SELECT * FROM components WHERE kind = 'mlp' AND influence_mean IS NOT NULL ORDER BY layer"

CARDS = f"""
    WITH {BEST_LABEL.replace("label FROM", "label, description, method, precision, recall FROM")}
    SELECT f.*, label, description, method, precision, recall
    FROM features f LEFT JOIN best_label USING (layer, feature)
    WHERE support > 0 ORDER BY influence_sum DESC, layer, feature LIMIT {{n}}
"""

WINDOWS = """
    WITH
    shown AS (
        SELECT layer, feature FROM features WHERE support > 0 ORDER BY influence_sum DESC, layer, feature LIMIT {n}
    ),
    distinct_windows AS (
        SELECT examples.* FROM examples SEMI JOIN shown USING (layer, feature)
        QUALIFY row_number() OVER (PARTITION BY layer, feature, window_tokens ORDER BY rank) = 1
    )
    SELECT * FROM distinct_windows
    QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY rank) <= {n_windows}
    ORDER BY layer, feature, rank
"""

HISTOGRAMS = """
    SELECT * FROM feature_activation_hist WHERE (layer, feature) IN ({features})
    ORDER BY layer, feature, is_negative, bin
"""


def read_list_url(database: Path, features: Sequence[FeatureRef]) -> str | None:
    """The address of a list of features on Neuronpedia; None where the run does not say that they are there.

    Args:
        database: the results.duckdb.
        features: in the order shown.
    """
    run = query(database, "SELECT run_id, neuronpedia FROM runs").row(0, named=True)
    sources = NeuronpediaSources.named(run["neuronpedia"])
    if sources is None:
        return None
    return quick_list_url(sources, run["run_id"], [(feature.layer, feature.feature) for feature in features])


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowToken:
    """A token of an example; `strength` is its activation over the card's largest, 0 to 1."""

    text: str
    activation: float
    strength: float
    is_peak: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A max-activating window, its peak token marked."""

    activation: float
    tokens: tuple[WindowToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCard:
    """One feature in full; `precision` and `recall` are those of its label's rule."""

    ref: FeatureRef
    description: str | None
    method: str | None
    precision: float | None
    recall: float | None
    support: int
    influence_sum: float
    activation_frequency: float
    activation_max: float
    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFigures:
    """One MLP layer over the run; influences are means over all graphs."""

    layer: int
    support: int
    n_features: int
    n_nodes: int
    influence_mean: float
    error_influence_mean: float


def read_layers(database: Path) -> tuple[LayerFigures, ...]:
    """The MLP layers, from the lowest; none where the run has no graph to take a mean over."""
    names = LayerFigures.__dataclass_fields__
    return tuple(
        LayerFigures(**{name: row[name] for name in names}) for row in query(database, LAYERS).iter_rows(named=True)
    )


def read_histograms(
    database: Path, features: list[FeatureRef]
) -> tuple[HistogramAxis, dict[tuple[int, int], tuple[Bar, ...]]]:
    """The activation histograms of `features` by (layer, feature), and the axis that they share."""
    if not features:
        return shared_axis(pl.DataFrame()), {}
    pairs = ", ".join(f"({ref.layer}, {ref.feature})" for ref in features)
    rows = query(database, HISTOGRAMS.format(features=pairs))
    axis = shared_axis(rows)
    groups = rows.partition_by("layer", "feature", as_dict=True)
    return axis, {key: histogram_bars(group, axis) for key, group in groups.items()}


def read_cards(database: Path, n: int, n_windows: int, n_tokens: int) -> tuple[FeatureCard, ...]:
    """The `n` features with most influence over the run, with their distinct strongest windows and output tokens."""
    windows = query(database, WINDOWS.format(n=n, n_windows=n_windows)).partition_by("layer", "feature", as_dict=True)
    cards = []
    for row in query(database, CARDS.format(n=n)).iter_rows(named=True):
        examples = windows.get((row["layer"], row["feature"]), pl.DataFrame())
        cards.append(
            FeatureCard(
                ref=FeatureRef(layer=row["layer"], feature=row["feature"], label=row["label"]),
                description=row["description"],
                method=row["method"],
                precision=row["precision"],
                recall=row["recall"],
                support=row["support"],
                influence_sum=row["influence_sum"],
                activation_frequency=row["activation_frequency"],
                activation_max=row["activation_max"],
                promoted=visible_tokens(row["top_tokens"], row["top_token_logits"], n_tokens),
                suppressed=visible_tokens(row["bottom_tokens"], row["bottom_token_logits"], n_tokens),
                windows=windows_of(examples),
            )
        )
    return tuple(cards)


def visible_tokens(tokens: list[str] | None, logits: list[float] | None, n: int) -> tuple[tuple[str, float], ...]:
    """The first tokens of a list with their figures, white space visible."""
    return tuple((visible(token), logit) for token, logit in zip((tokens or [])[:n], (logits or [])[:n], strict=True))


def windows_of(examples: pl.DataFrame, largest: float | None = None) -> tuple[Window, ...]:
    """Rows of `examples` as windows.

    Args:
        examples: the rows.
        largest: the activation of full strength; when not given, the largest in the windows.
    """
    rows = list(examples.iter_rows(named=True))
    if largest is None:
        largest = max((abs(value) for row in rows for value in row["window_activations"]), default=0.0)
    return tuple(
        Window(
            activation=row["activation"],
            tokens=tuple(
                WindowToken(
                    text=visible(token),
                    activation=activation,
                    strength=round(min(1.0, abs(activation) / (largest or 1.0)), 2),
                    is_peak=row["window_start"] + place == row["pos"],
                )
                for place, (token, activation) in enumerate(
                    zip(row["window_tokens"], row["window_activations"], strict=True)
                )
            ),
        )
        for row in rows
    )
