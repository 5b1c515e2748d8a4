"""Figures of components: bars by layer, maps of layers and heads, which components share graphs."""

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from tracer.views.figures.style import HEAT, POSITIVE, dress, explain, heat_map, new_figure, rule

NAMES = {
    "frequency": "share of graphs",
    "n_features": "distinct features",
    "influence_mean": "mean influence per graph, share of logit weight",
    "product": "share of graphs x distinct features",
    "support": "graphs with both",
    "lift": "graphs with both over graphs expected",
    "lift_stratified": "graphs with both over graphs expected within strata",
    "jaccard": "graphs with both over graphs with either",
}
N_ANNOTATED = 400
"""Most cells of a map that have their value written in."""


def frequency_bars(frame: pl.DataFrame, *, note: str = "all graphs") -> Figure:
    """How often each component is in a graph, layer by layer.

    Args:
        frame: as `components.frequency` gives it.
        note: which graphs.
    """
    layers = frame["layer"].unique().sort().to_list()
    heads = frame.filter(pl.col("kind") == "head")
    n_heads = int(heads["head"].max() or 0) + 1 if heads.height else 0  # type: ignore[arg-type]
    figure = new_figure(max(5.0, 1.2 + len(layers) * (0.5 + 0.09 * n_heads)), 3.4)
    axes = figure.subplots()
    mlps = frame.filter(pl.col("kind") == "mlp")
    mlp_width = 0.22 if n_heads else 0.6
    left = -0.4 + mlp_width / 2 if n_heads else 0.0
    axes.bar(mlps["layer"].to_numpy() + left, mlps["frequency"], mlp_width, color=POSITIVE, label="MLP")
    if n_heads:
        step = (0.8 - mlp_width - 0.04) / n_heads
        place = heads["layer"].to_numpy() - 0.4 + mlp_width + 0.04 + (heads["head"].to_numpy() + 0.5) * step
        axes.bar(place, heads["frequency"], step * 0.82, color=HEAT, label=f"heads 0 to {n_heads - 1}")
    axes.set_xticks(layers)
    axes.set_ylim(0, 1.02)
    rule(axes, "y")
    dress(axes, "How often each component takes part", note=note, x="layer", y="share of graphs")
    explain(axes)
    return figure


def component_map(frame: pl.DataFrame, *, what: str = "frequency", note: str = "all graphs") -> Figure:
    """Layers from bottom to top, heads from left to right, the MLP on the right.

    Args:
        frame: as `components.map` gives it.
        what: its measure.
        note: which graphs.
    """
    columns = frame.columns[1:]
    matrix = frame.drop("layer").to_numpy()
    # the MLP is no further head: a gap sets it apart
    gap = np.full((matrix.shape[0], 1), np.nan)
    has_heads = len(columns) > 1
    shown = np.hstack([matrix[:, :-1], gap, matrix[:, -1:]]) if has_heads else matrix
    names = [*columns[:-1], "", columns[-1]] if has_heads else columns
    figure = new_figure(max(4.6, 2.0 + 0.52 * len(names)), max(2.6, 1.3 + 0.42 * matrix.shape[0]))
    axes = figure.subplots()
    rows = [str(layer) for layer in frame["layer"]]
    is_small = matrix.size <= N_ANNOTATED
    heat_map(axes, shown, rows=rows, columns=names, label=NAMES.get(what, what), is_annotated=is_small)
    if has_heads:
        axes.axvspan(len(names) - 2, len(names) - 1, color="white", zorder=3)
    dress(axes, f"Attention heads and MLPs by {_title(what)}", note=note, x="head", y="layer")
    axes.spines["bottom"].set_visible(False)
    return figure


def cooccurrence_map(frame: pl.DataFrame, *, what: str = "support", note: str = "all graphs") -> Figure:
    """Which components share graphs.

    Args:
        frame: as `components.pair_map` gives it.
        what: its measure.
        note: which graphs.
    """
    names = frame["component"].to_list()
    matrix = frame.drop("component").to_numpy()
    size = max(4.5, 1.6 + 0.3 * len(names))
    figure = new_figure(size + 0.9, size)
    axes = figure.subplots()
    heat_map(
        axes, matrix[::-1], rows=names[::-1], columns=names, label=NAMES.get(what, what), is_annotated=False,
        neutral=1.0 if what.startswith("lift") else None,
    )  # fmt: skip
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90)
    axes.set_aspect("equal")
    dress(axes, f"Components that share graphs, by {_title(what)}", note=note)
    axes.spines["bottom"].set_visible(False)
    return figure


def error_map(frame: pl.DataFrame, *, note: str = "all graphs") -> Figure:
    """Where transcoders fail: influence of the kept error nodes by layer and position, per graph that is long enough.

    Args:
        frame: as `graphs.errors` gives it.
        note: which graphs.
    """
    layers, positions = (range(int(frame[name].max() or 0) + 1) for name in ("layer", "pos"))  # type: ignore[arg-type]
    matrix = np.zeros((len(layers), len(positions)))
    for layer, pos, influence in frame.select("layer", "pos", "influence_mean").iter_rows():
        matrix[layer, pos] = 100 * influence
    figure = new_figure(max(4.6, 2.0 + 0.45 * len(positions)), max(2.6, 1.3 + 0.42 * len(layers)))
    axes = figure.subplots()
    label = "mean influence per graph,\nper cent of logit weight"
    rows, columns = [str(layer) for layer in layers], [str(pos) for pos in positions]
    heat_map(axes, matrix, rows=rows, columns=columns, label=label, is_annotated=matrix.size <= N_ANNOTATED)
    dress(axes, "Where transcoders fail", note=note, x="token position", y="layer")
    axes.spines["bottom"].set_visible(False)
    return figure


def _title(what: str) -> str:
    return {"n_features": "distinct features", "influence_mean": "influence"}.get(what, what.replace("_", " "))
