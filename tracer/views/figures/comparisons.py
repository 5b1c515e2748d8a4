"""Figures of what differs: frequencies on two sides with intervals, clusters of graphs against values of metadata."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from tracer.views import formats
from tracer.views.figures.style import INK, NEGATIVE, POSITIVE, QUIET, dress, heat_map, new_figure

CHARACTERS = 44
SURE = 0.05
"""Chance up to which a difference counts as more than the dealing out of sides gives."""


def intervals(
    frame: pl.DataFrame, *, title: str, note: str = "", labels: Mapping[tuple[int, int], str] | None = None, n: int = 12
) -> Figure:
    """Differences of the frequencies of features with their 95 % intervals, the largest effects on top; pale where
    permutations differ as much too often.

    Args:
        frame: rows of `comparisons`, of which those of features are drawn.
        title: which sides.
        note: how many graphs there are.
        labels: text by (layer, feature).
        n: most features drawn.
    """
    features = frame.filter(pl.col("kind") == "feature").with_columns(pl.col("effect_size").abs().alias("size"))
    rows = list(features.sort("size", descending=True, maintain_order=True).head(n).iter_rows(named=True))[::-1]
    figure = new_figure(7.6, 1.4 + 0.32 * max(len(rows), 1))
    axes = figure.subplots()
    axes.axvline(0, color=QUIET, linewidth=0.8, zorder=0)
    for place, row in enumerate(rows):
        chance = row["p_permutation"] if row["p_permutation"] is not None else row["q"]
        colour = POSITIVE if row["difference"] > 0 else NEGATIVE
        strength = 1.0 if chance is not None and chance <= SURE else 0.35
        axes.plot(
            [row["difference_low"], row["difference_high"]], [place, place], color=colour, linewidth=2.4, alpha=strength
        )
        axes.plot(row["difference"], place, "o", color=colour, alpha=strength, markersize=5.5)
    names = [_name(row, labels or {}) for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_xlim(-1.05, 1.05)
    dress(axes, title, note=note, x="difference of the shares of graphs, with 95 % interval")
    return figure


def cluster_map(frame: pl.DataFrame, *, note: str = "share of each value's graphs that are in the cluster") -> Figure:
    """Clusters of graphs against values of metadata: a diagonal, where clusters find the values again.

    Args:
        frame: as `circuits.clusters_by_value` gives it.
        note: what cells are.
    """
    known = frame.filter(pl.col("by_value").is_not_null())
    largest = known.sort("n_graphs", descending=True).group_by("by_value", maintain_order=True).first()
    order = known.group_by("circuit_id").agg(pl.col("n_graphs").sum())
    order = order.sort("n_graphs", "circuit_id", descending=[True, False])
    clusters = order["circuit_id"].to_list()
    places = {name: place for place, name in enumerate(clusters)}
    main = dict(largest.select("by_value", "circuit_id").iter_rows())
    values = sorted(main, key=lambda value: (places[main[value]], value))
    matrix = np.zeros((len(clusters), len(values)))
    for row in known.iter_rows(named=True):
        matrix[places[row["circuit_id"]], values.index(row["by_value"])] = row["share_of_value"]
    figure = new_figure(max(5.0, 2.4 + 0.55 * len(values)), max(3.0, 2.2 + 0.34 * len(clusters)))
    axes = figure.subplots()
    heat_map(
        axes, matrix[::-1], rows=clusters[::-1], columns=values, label="share of the value's graphs",
        is_annotated=matrix.size <= 400,
    )  # fmt: skip
    axes.set_xticks(np.arange(len(values)) + 0.5, values, rotation=40, ha="right", rotation_mode="anchor")
    dress(axes, "Clusters of graphs against what the prompts ask", note=note)
    axes.spines["bottom"].set_visible(False)
    return figure


def _name(row: dict, labels: Mapping[tuple[int, int], str]) -> str:
    layer, feature = row["layer_a"], row["feature_a"]
    label = formats.shorten(labels.get((layer, feature)) or "", CHARACTERS)
    return f"{label}  L{layer}/{feature}" if label else f"L{layer}/{feature}"
