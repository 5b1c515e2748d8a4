"""Figures of distributions and curves: completeness by task, distinct features by number of prompts."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from tracer.errors import DataError
from tracer.views.figures.style import INK, PAPER, POSITIVE, QUIET, SERIES, SMALL, apart, dress, new_figure, rule

NAMES = {"completeness_score": "completeness", "replacement_score": "replacement"}
N_SMOOTH = 8
"""Fewest graphs of which a density is drawn; fewer are dots."""


def completeness(frame: pl.DataFrame, *, what: str = "completeness_score", note: str = "") -> Figure:
    """How a score is distributed over the graphs of each value, the lowest median at the bottom; dots are medians,
    bars the middle half.

    Args:
        frame: as `graphs.completeness` gives it.
        what: completeness_score or replacement_score.
        note: which graphs.
    """
    if what not in NAMES:
        raise DataError("completeness", found=repr(what), expected=" or ".join(NAMES), to_do="Name one of them.")
    order = frame.group_by("by_value").agg(pl.col(what).median()).sort(what, "by_value")["by_value"].to_list()
    values = [frame.filter(pl.col("by_value") == name)[what].drop_nulls().to_numpy() for name in order]
    figure = new_figure(6.4, 1.4 + 0.36 * len(order))
    axes = figure.subplots()
    for place, scores in enumerate(values):
        if len(scores) >= N_SMOOTH and np.ptp(scores) > 0:
            parts = axes.violinplot([scores], [place], orientation="horizontal", widths=0.86, showextrema=False)
            for body in parts["bodies"]:  # type: ignore[attr-defined]
                body.set(facecolor=POSITIVE, alpha=0.28, linewidth=0)
        else:
            axes.plot(scores, np.full(len(scores), place), ".", color=POSITIVE, alpha=0.4, markeredgewidth=0)
        low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75))
        axes.plot([low, high], [place, place], color=POSITIVE, linewidth=3, solid_capstyle="butt")
        axes.plot(middle, place, "o", color=PAPER, markeredgecolor=INK, markersize=5, markeredgewidth=1)
    counts = [f"{name}  ({len(scores)})" for name, scores in zip(order, values, strict=True)]
    axes.set_yticks(range(len(order)), counts)
    rule(axes, "x")
    name = NAMES.get(what, what)
    dress(
        axes,
        f"{name.capitalize()} of graphs",
        note=note or "dot: median; bar: middle half; (number of graphs)",
        x=f"{name}, share",
    )
    return figure


def unique_features(
    frame: pl.DataFrame, *, note: str = "mean over random orders of the prompts; band: one standard deviation"
) -> Figure:
    """How many distinct features more and more prompts show.

    Args:
        frame: as `unique_features` gives it.
        note: how it was sampled.
    """
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    names = frame["component"].unique(maintain_order=True).to_list()
    ends = [frame.filter(pl.col("component") == name)["n_features_mean"][-1] for name in names]
    heights = apart(ends, 0.045 * max(ends, default=0.0))
    for place, name in enumerate(names):
        colour = SERIES[place % len(SERIES)]
        curve = frame.filter(pl.col("component") == name)
        x, mean = curve["n_prompts"].to_numpy(), curve["n_features_mean"].to_numpy()
        spread = np.nan_to_num(curve["n_features_sd"].to_numpy())
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
        axes.plot(x, mean, color=colour, linewidth=1.8)
        label = name if len(names) > 1 else f"{mean[-1]:,.0f}"
        axes.annotate(
            label, (x[-1], heights[place]), xytext=(5, 0), textcoords="offset points", va="center", fontsize=SMALL,
            color=colour if len(names) > 1 else QUIET, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    rule(axes, "y")
    dress(axes, "Distinct features in more and more prompts", note=note, x="prompts", y="distinct features in graphs")
    return figure
