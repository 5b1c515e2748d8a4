"""A recurring circuit as a picture: tokens at the bottom, features layer by layer, answers on top."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from tracer.views import formats
from tracer.views.figures.style import (
    INK,
    NEGATIVE,
    PAPER,
    POSITIVE,
    QUIET,
    RULE,
    SMALL,
    TOKEN,
    dress,
    new_figure,
    token_name,
)

Key = tuple[str, int, int]
"""Kind, layer (-1 for tokens and logits) and index of a node."""
N_SWEEPS = 12
MAX_WIDTH = 4.5
CHARACTERS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    key: Key
    name: str
    label: str
    frequency: float


def circuit(nodes: pl.DataFrame, edges: pl.DataFrame, *, title: str, note: str = "", n_per_layer: int = 8) -> Figure:
    """Nodes of a circuit with the edges between them: wider the more graphs keep them, blue where they raise the
    target, orange where they lower it.

    Args:
        nodes: as `Circuit.nodes`: kind, layer, feature, label, frequency, weight.
        edges: as `Circuit.edges`: ends, support, frequency, weight_mean.
        title: what the circuit is of.
        note: how it was made.
        n_per_layer: most nodes drawn of each layer, and of tokens and answers: those of most weight.
    """
    by_weight = nodes.sort("weight", descending=True, maintain_order=True)
    strongest = by_weight.group_by("kind", "layer", maintain_order=True).head(n_per_layer)
    drawn = {node.key: node for node in _nodes(strongest)}
    kept = [row for row in edges.iter_rows(named=True) if _end(row, "source") in drawn and _end(row, "target") in drawn]
    rows = _rows(drawn)
    places = _place(rows, kept)
    widest = max(map(len, rows.values()), default=1)
    figure = new_figure(min(16.0, max(6.0, 1.45 * widest + 0.8)), max(2.5, 1.1 * len(rows) + 0.9))
    axes = figure.subplots()
    most = max((row["frequency"] for row in kept), default=1.0)
    for row in sorted(kept, key=lambda row: row["frequency"]):
        _draw_edge(axes, places[_end(row, "source")], places[_end(row, "target")], row, most)
    for key, node in drawn.items():
        _draw_node(axes, places[key], node)
    dress(axes, title, note=note or "edges: wider in more graphs; blue raises, orange lowers")
    top = _top(drawn)
    axes.set_yticks(range(len(rows)), ["answers" if row == top else _row_name(row) for row in rows])
    axes.set_xticks([])
    axes.set_xlim(-0.5, widest - 0.5)
    axes.set_ylim(-0.45, len(rows) - 0.6)
    axes.spines["bottom"].set_visible(False)
    for place in range(len(rows)):
        axes.axhline(place, color=RULE, linewidth=0.6, zorder=0)
    return figure


def _nodes(nodes: pl.DataFrame) -> list[_Node]:
    found = []
    for row in nodes.iter_rows(named=True):
        is_feature = row["kind"] == "feature"
        name = f"L{row['layer']}/{row['feature']}" if is_feature else token_name(row["label"] or "")
        label = row["label"] or "" if is_feature else ""
        key = (row["kind"], row["layer"], row["feature"])
        found.append(_Node(key=key, name=name, label=label, frequency=row["frequency"]))
    return found


def _end(row: dict, end: str) -> Key:
    return row[f"{end}_kind"], row[f"{end}_layer"], row[f"{end}_feature"]


def _rows(drawn: dict[Key, _Node]) -> dict[int, list[Key]]:
    """Nodes by row, the lowest first: tokens are row -1, logits come after the last layer."""
    top = _top(drawn)
    rows = defaultdict(list)
    for kind, layer, idx in sorted(drawn):
        rows[{"token": -1, "logit": top}.get(kind, layer)].append((kind, layer, idx))
    return {row: rows[row] for row in sorted(rows)}


def _top(drawn: Iterable[Key]) -> int:
    return max((layer for kind, layer, _ in drawn if kind == "feature"), default=-1) + 1


def _row_name(row: int) -> str:
    return "tokens" if row < 0 else f"layer {row}"


def _place(rows: dict[int, list[Key]], edges: list[dict]) -> dict[Key, tuple[float, float]]:
    """Nodes stand where their neighbours are on average, in the order that this gives, evenly spread."""
    neighbours: dict[Key, list[Key]] = defaultdict(list)
    for row in edges:
        neighbours[_end(row, "source")].append(_end(row, "target"))
        neighbours[_end(row, "target")].append(_end(row, "source"))
    widest = max(map(len, rows.values()), default=1)
    x = {key: place for keys in rows.values() for key, place in zip(keys, _spread(len(keys), widest), strict=True)}
    for _ in range(N_SWEEPS):
        for keys in rows.values():
            middle = {
                key: float(np.mean([x[other] for other in neighbours[key]])) if neighbours[key] else x[key]
                for key in keys
            }
            for key, place in zip(
                sorted(keys, key=lambda key: (middle[key], key)), _spread(len(keys), widest), strict=True
            ):
                x[key] = place
    return {key: (x[key], float(height)) for height, keys in enumerate(rows.values()) for key in keys}


def _spread(n: int, widest: int) -> np.ndarray:
    return (np.arange(n) + 0.5) * widest / max(n, 1) - 0.5


def _draw_edge(axes: Axes, start: tuple[float, float], end: tuple[float, float], row: dict, most: float) -> None:
    share = row["frequency"] / most
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-", connectionstyle="arc3,rad=0.08", shrinkA=9, shrinkB=9,
            linewidth=0.5 + MAX_WIDTH * share**2, alpha=0.25 + 0.55 * share,
            color=POSITIVE if row["weight_mean"] >= 0 else NEGATIVE, zorder=1,
        )
    )  # fmt: skip


def _draw_node(axes: Axes, place: tuple[float, float], node: _Node) -> None:
    x, y = place
    is_feature = node.key[0] == "feature"
    frame = {"edgecolor": INK if is_feature else TOKEN, "linewidth": 0.6 + 1.4 * node.frequency}
    axes.text(
        x, y, node.name, ha="center", va="center", fontsize=SMALL, color=INK, zorder=3,
        bbox={"boxstyle": "round,pad=0.32", "facecolor": PAPER, **frame},
    )  # fmt: skip
    if node.label:
        axes.annotate(
            formats.shorten(node.label, CHARACTERS), (x, y), xytext=(0, -13), textcoords="offset points", ha="center",
            va="top", fontsize=6.8, color=QUIET, zorder=4,
            bbox={"boxstyle": "square,pad=0.08", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.75},
        )  # fmt: skip
