"""Figures of influence: by layer and kind, and over the tokens of a prompt."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from tracer.views.figures.style import KIND_COLOURS, PAPER, dress, explain, new_figure, rule, token_name

UNIT = "influence, share of logit weight"


def influence_by_layer(frame: pl.DataFrame, *, note: str = "all graphs") -> Figure:
    """Where influence lies: tokens at the bottom, features and errors by layer above.

    Args:
        frame: as `graphs.influence_by_layer` gives it.
        note: which graphs.
    """
    layers = frame["layer"].unique().sort().to_list()
    figure = new_figure(6.4, 1.4 + 0.34 * len(layers))
    axes = figure.subplots()
    start = np.zeros(len(layers))
    for kind in ("token", "feature", "error"):
        of_kind = dict(frame.filter(pl.col("kind") == kind).select("layer", "influence_mean").iter_rows())
        values = np.array([of_kind.get(layer) or 0.0 for layer in layers])
        axes.barh(
            layers, values, 0.68, left=start, color=KIND_COLOURS[kind], edgecolor=PAPER, linewidth=0.8, label=kind
        )
        start += values
    axes.set_yticks(layers, ["tokens" if layer < 0 else f"layer {layer}" for layer in layers])
    rule(axes, "x")
    dress(axes, "Influence by layer and kind of node", note=note, x=f"{UNIT}; mean over graphs")
    explain(axes)
    return figure


def influence_by_token(frame: pl.DataFrame, *, note: str = "") -> Figure:
    """What each token of a prompt contributes through its token node, the features and the errors at its place.

    Args:
        frame: as `graphs.influence_by_token` gives it.
        note: which prompt, in words.
    """
    tokens = frame.select("pos", "token").unique().sort("pos")
    figure = new_figure(max(5.0, 1.4 + 0.62 * tokens.height), 3.4)
    axes = figure.subplots()
    start = np.zeros(tokens.height)
    for kind in ("token", "feature", "error"):
        values = frame.filter(pl.col("kind") == kind).sort("pos")["influence"].to_numpy()
        axes.bar(
            tokens["pos"],
            values,
            0.72,
            bottom=start,
            color=KIND_COLOURS[kind],
            edgecolor=PAPER,
            linewidth=0.8,
            label=kind,
        )
        start = start + values
    names = [token_name(token) for token in tokens["token"]]
    axes.set_xticks(tokens["pos"], names, rotation=35, ha="right", rotation_mode="anchor")
    rule(axes, "y")
    dress(axes, "Influence by token", note=note, y=UNIT)
    explain(axes)
    return figure
