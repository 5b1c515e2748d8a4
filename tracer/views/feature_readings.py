"""What the page of a feature asks of a harvest: activations, windows, tokens, logits, features like it."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from tracer.corpus.tokens import visible
from tracer.tables.database import Connection, ask
from tracer.tables.joining import SCHEMA
from tracer.views.feature_circuits import read_labels
from tracer.views.histogram import Bar, HistogramAxis, histogram_bars, shared_axis
from tracer.views.page_readings import Window, visible_tokens, windows_of
from tracer.views.records import FeatureRef
from tracer.views.results.harvest import Harvest

N_TOP, N_PER_GROUP, N_TOKENS, N_CHIPS, N_ALIKE = 15, 4, 12, 12, 6
N_LOGITS = 10

HISTOGRAM = f"""
    SELECT is_negative, bin, n FROM {SCHEMA}.feature_activation_hist
    WHERE layer = $layer AND feature = $feature ORDER BY ALL
"""
POSITIONS = f"""
    SELECT bin, n, n / sum(n) OVER () AS share FROM {SCHEMA}.feature_positions
    WHERE layer = $layer AND feature = $feature ORDER BY bin
"""


FIRST = f"SELECT * FROM {SCHEMA}.features ORDER BY n_firings DESC, layer, feature LIMIT $n"
FIRST_IN_RUN = f"""
    SELECT h.*, f.support FROM features AS f JOIN {SCHEMA}.features AS h USING (layer, feature)
    WHERE f.support > 0 ORDER BY f.influence_sum DESC, layer, feature LIMIT $n
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGroup:
    """Windows of one kind under a heading."""

    heading: str
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LikeFeature:
    """Another feature, and how alike or how often together."""

    ref: FeatureRef
    figures: dict[str, Any]
    top_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOnCorpus:
    """A feature over the reference corpus; `row` is its row of `features`, `about` that of `harvests`."""

    about: dict[str, Any]
    row: dict[str, Any]
    axis: HistogramAxis
    bars: tuple[Bar, ...]
    positions: tuple[tuple[str, int, float], ...]
    top: tuple[Window, ...]
    quantiles: tuple[WindowGroup, ...]
    silent: tuple[WindowGroup, ...]
    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]
    tokens: tuple[dict[str, Any], ...]
    before: tuple[tuple[str, int], ...]
    after: tuple[tuple[str, int], ...]
    excitations: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    alike: dict[str, tuple[LikeFeature, ...]]
    coactive: dict[str, tuple[LikeFeature, ...]]


def read_first(connection: Connection, n: int, *, has_run: bool) -> tuple[LikeFeature, ...]:
    """The features with most influence in the graphs of the run that is open, else those that fire most often.

    Args:
        connection: to a harvest, and perhaps a run.
        n: most features.
        has_run: whether a run is open.
    """
    rows = ask(connection, FIRST_IN_RUN if has_run else FIRST, {"n": n})
    labels = read_labels(connection, rows.select("layer", "feature").rows()) if has_run else {}
    return tuple(
        LikeFeature(
            ref=_ref(row["layer"], row["feature"], labels),
            figures=row,
            top_tokens=tuple(visible(token) for token in (row["top_tokens"] or ())[:5]),
        )
        for row in rows.iter_rows(named=True)
    )


def read_on_corpus(harvest: Harvest, layer: int, feature: int, *, has_run: bool) -> FeatureOnCorpus:
    """All that the harvest says of a feature.

    Args:
        harvest: opened.
        layer: the feature's layer.
        feature: its index there.
        has_run: whether a run is open beside it, whose labels other features are shown with.

    Raises:
        DataError: it was not harvested.
    """
    row, parameters = harvest.feature(layer, feature), {"layer": layer, "feature": feature}
    histogram = ask(harvest.connection, HISTOGRAM, parameters)
    axis = shared_axis(histogram)
    tokens = harvest.tokens(layer, feature)
    alike, coactive = _alike(harvest, layer, feature, has_run=has_run)
    groups = _windows(harvest.examples(layer, feature, kind=None), row["activation_max"])
    return FeatureOnCorpus(
        about=harvest.about,
        row=row,
        axis=axis,
        bars=histogram_bars(histogram, axis),
        positions=tuple(
            (_octave(bin), n, share) for bin, n, share in ask(harvest.connection, POSITIONS, parameters).iter_rows()
        ),
        top=groups["top"],
        quantiles=groups["quantile"],
        silent=groups["silent"],
        promoted=visible_tokens(row["top_tokens"], row["top_token_logits"], N_LOGITS),
        suppressed=visible_tokens(row["bottom_tokens"], row["bottom_token_logits"], N_LOGITS),
        tokens=tuple(
            shown | {"token": visible(shown["token"])}
            for shown in tokens.filter(pl.col("n_at") > 0).head(N_TOKENS).iter_rows(named=True)
        ),
        before=_commonest(tokens, "n_before"),
        after=_commonest(tokens, "n_after"),
        excitations=_excitations(harvest.excitations(layer, feature)),
        alike=alike,
        coactive=coactive,
    )


def _windows(examples: pl.DataFrame, largest: float | None) -> dict[str, Any]:
    """Windows by what they show: the strongest, groups of drawn ones, and those without the feature."""
    of_kind = {kind: examples.filter(pl.col("kind") == kind) for kind in ("top", "quantile", "random", "near_miss")}
    drawn = of_kind["quantile"].sort("quantile", "rank", descending=[True, False])
    groups = [
        WindowGroup(heading=_strength(rows), windows=windows_of(rows.head(N_PER_GROUP), largest))
        for _, rows in drawn.group_by("quantile", maintain_order=True)
    ]
    silent = [
        WindowGroup(heading=heading, windows=windows_of(of_kind[kind].head(2 * N_PER_GROUP), largest))
        for kind, heading in (("near_miss", "Near misses"), ("random", "At random"))
        if of_kind[kind].height
    ]
    return {
        "top": windows_of(of_kind["top"].head(N_TOP), largest),
        "quantile": tuple(groups),
        "silent": tuple(silent),
    }


def _strength(rows: pl.DataFrame) -> str:
    activations = rows["activation"].to_list()
    return f"{min(activations):.3g} to {max(activations):.3g}"


def _octave(bin: int) -> str:
    if bin < 1:
        return str(bin + 1)
    return f"{2**bin}–{2 ** (bin + 1) - 1}"


def _commonest(tokens: pl.DataFrame, column: str) -> tuple[tuple[str, int], ...]:
    rows = tokens.filter(pl.col(column) > 0).sort(column, "token_id", descending=[True, False]).head(N_CHIPS)
    return tuple((visible(token), n) for token, n in rows.select("token", column).iter_rows())


def _excitations(rows: pl.DataFrame) -> tuple[tuple[str, tuple[tuple[str, float], ...]], ...]:
    found = []
    for row in rows.sort(pl.col("via_head") >= 0, pl.col("score_sd"), descending=[False, True]).iter_rows(named=True):
        path = "straight" if row["via_head"] < 0 else f"head L{row['via_layer']}H{row['via_head']}"
        found.append((path, visible_tokens(row["tokens"], row["token_scores"], N_LOGITS)))
    return tuple(found)


def _alike(
    harvest: Harvest, layer: int, feature: int, *, has_run: bool
) -> tuple[dict[str, tuple[LikeFeature, ...]], dict[str, tuple[LikeFeature, ...]]]:
    """Neighbours by scope, and co-active features by grain."""
    neighbours = harvest.neighbours(layer, feature)
    lists = {scope: neighbours.filter(pl.col("scope") == scope).head(N_ALIKE) for scope in ("within", "across")}
    coactive = {grain: harvest.coactive(layer, feature, grain).head(N_ALIKE) for grain in ("token", "document")}
    places = {"neighbour": lists, "other": coactive}
    pairs = [
        pair
        for end, frames in places.items()
        for frame in frames.values()
        for pair in frame.select(f"{end}_layer", f"{end}_feature").iter_rows()
    ]
    labels = read_labels(harvest.connection, pairs) if has_run else {}

    def like(frame: pl.DataFrame, end: str) -> tuple[LikeFeature, ...]:
        return tuple(
            LikeFeature(
                ref=_ref(row[f"{end}_layer"], row[f"{end}_feature"], labels),
                figures=row,
                top_tokens=tuple(visible(token) for token in (row.get("top_tokens") or ())[:5]),
            )
            for row in frame.iter_rows(named=True)
        )

    return (
        {scope: like(frame, "neighbour") for scope, frame in lists.items() if frame.height},
        {grain: like(frame, "other") for grain, frame in coactive.items() if frame.height},
    )


def _ref(layer: int, feature: int, labels: dict[tuple[int, int], str]) -> FeatureRef:
    return FeatureRef(layer=layer, feature=feature, label=labels.get((layer, feature)))
