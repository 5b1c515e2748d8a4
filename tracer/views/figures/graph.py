"""The attribution graph of one prompt as a picture: tokens from left to right, layers from bottom to top."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from tracer.views import formats
from tracer.views.figures.style import (
    INK,
    KIND_COLOURS,
    NEGATIVE,
    PAPER,
    POSITIVE,
    QUIET,
    RULE,
    SMALL,
    dress,
    new_figure,
    token_name,
)

Row = dict[str, Any]
N_NUMBERED = 10
"""Features of most influence that carry a number, explained below the picture."""
CELL, LARGEST, SMALLEST = 0.42, 340.0, 40.0
MAX_WIDTH = 4.5
CHARACTERS = 70


def graph(
    nodes: pl.DataFrame,
    edges: pl.DataFrame,
    *,
    title: str,
    note: str = "",
    labels: Mapping[tuple[int, int], str] | None = None,
) -> Figure:
    """A pruned graph: nodes larger the more influence they have, edges wider the more of the answer they carry.

    Args:
        nodes: as `Graph.nodes` and the table `nodes` have them.
        edges: as `Graph.edges` and the table `edges` have them.
        title: the prompt.
        note: what else is to be said of it.
        labels: text by (layer, feature), for the key below.
    """
    rows = list(nodes.iter_rows(named=True))
    top = max((row["layer"] for row in rows if row["kind"] in ("feature", "error")), default=-1) + 1
    places, ticks, width = _place(rows, top)
    numbered = _number(rows)
    n_key = len(numbered) if labels is not None else 0
    figure = new_figure(min(16.0, max(6.0, 0.8 * width + 1.2)), 1.4 + 0.85 * (top + 2) + 0.17 * n_key)
    axes = figure.subplots()
    for level in range(-1, top + 1):
        axes.axhline(level, color=RULE, linewidth=0.6, zorder=0)
    most = float(edges["edge_score"].max() or 1.0)  # type: ignore[arg-type]
    for row in edges.sort("edge_score").iter_rows(named=True):
        _draw_edge(axes, places[row["source_idx"]], places[row["target_idx"]], row, most)
    for row in rows:
        _draw_node(axes, places[row["node_idx"]], row, numbered.get(row["node_idx"]))
    dress(axes, title, note=note or "blue raises its target, orange lowers it; wider: more of the answer")
    axes.set_xticks([])
    axes.set_yticks(range(-1, top + 1), ["tokens", *(f"layer {layer}" for layer in range(top)), "answers"])
    axes.set_xlim(ticks[0] - 0.9, ticks[-1] + 0.9)
    axes.set_ylim(-1.35, top + 0.4)
    axes.spines["bottom"].set_visible(False)
    if labels is not None:
        axes.set_xlabel(_key(rows, numbered, labels), fontsize=SMALL, color=QUIET, loc="left", linespacing=1.5)
    return figure


def _place(rows: list[Row], top: int) -> tuple[dict[int, tuple[float, float]], list[float], float]:
    """Where nodes stand, the middles of the positions, and the width of all."""
    cells: dict[tuple[int, int], list[Row]] = defaultdict(list)
    for row in rows:
        level: int = {"token": -1, "logit": top}.get(row["kind"], row["layer"])  # type: ignore[assignment]
        cells[level, row["pos"]].append(row)
    positions = range(max(row["pos"] for row in rows) + 1)
    crowd = [max((len(cell) for (_, at), cell in cells.items() if at == pos), default=1) for pos in positions]
    widths = [max(1.0, CELL * n + 0.2) for n in crowd]
    middles = list(np.cumsum(widths) - np.array(widths) / 2)
    places = {}
    for (level, pos), cell in cells.items():
        step = 0.9 if level == top else CELL
        for number, row in enumerate(sorted(cell, key=lambda row: -row["influence"])):
            places[row["node_idx"]] = (middles[pos] + (number - (len(cell) - 1) / 2) * step, float(level))
    return places, middles, sum(widths)


def _number(rows: list[Row]) -> dict[int, int]:
    features = sorted((row for row in rows if row["kind"] == "feature"), key=lambda row: -row["influence"])
    return {row["node_idx"]: number for number, row in enumerate(features[:N_NUMBERED], 1)}


def _draw_edge(axes: Axes, start: tuple[float, float], end: tuple[float, float], row: Row, most: float) -> None:
    share = row["edge_score"] / most
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-", connectionstyle="arc3,rad=0.06", shrinkA=7, shrinkB=7,
            linewidth=0.4 + MAX_WIDTH * share, alpha=0.2 + 0.6 * share**0.5,
            color=POSITIVE if row["weight"] >= 0 else NEGATIVE, zorder=1,
        )
    )  # fmt: skip


def _draw_node(axes: Axes, place: tuple[float, float], row: Row, number: int | None) -> None:
    x, y = place
    if row["kind"] in ("token", "logit"):
        frame = {"boxstyle": "round,pad=0.3", "facecolor": PAPER, "edgecolor": INK if row["kind"] == "logit" else RULE}
        name = token_name(row["token"])
        axes.text(x, y, name, ha="center", va="center", fontsize=SMALL, color=INK, zorder=3, bbox=frame)
        return
    size = SMALLEST + LARGEST * min(row["influence"], 1.0)
    marker = "o" if row["kind"] == "feature" else "D"
    axes.scatter([x], [y], s=size, marker=marker, color=KIND_COLOURS[row["kind"]], edgecolor=PAPER, zorder=3)
    if number is not None:
        axes.annotate(
            str(number), (x, y), xytext=(0, 0.5 * size**0.5 + 1), textcoords="offset points", ha="center", va="bottom",
            fontsize=SMALL, fontweight="bold", color=INK, zorder=4,
        )  # fmt: skip


def _key(rows: list[Row], numbered: dict[int, int], labels: Mapping[tuple[int, int], str]) -> str:
    by_idx = {row["node_idx"]: row for row in rows}
    lines = []
    for node_idx, number in numbered.items():
        row = by_idx[node_idx]
        label = formats.shorten(labels.get((row["layer"], row["feature"])) or "no label", CHARACTERS)
        lines.append(f"{number}  L{row['layer']}/{row['feature']}  {label}  ({row['influence']:.2f})")
    return "\n".join(lines)
