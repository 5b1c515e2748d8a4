"""How all figures look: the colours of the page, titles to the left, no more lines than are needed."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.text import Text

from tracer.corpus.tokens import visible

PAPER, INK, QUIET, RULE, FAINT = "#ffffff", "#1a1d21", "#5a626c", "#d9dce0", "#f0f1ef"
POSITIVE, NEGATIVE, HEAT, TOKEN = "#1f5f99", "#b4430f", "#d67814", "#8fa3b5"
KIND_COLOURS = {"feature": POSITIVE, "error": NEGATIVE, "token": TOKEN}
SERIES = (POSITIVE, HEAT, "#3f7d5a", "#7a4f9a", NEGATIVE, "#4a9bb5", "#9a7a1f", "#5a626c")
SMALL, PLAIN, LARGE = 8.0, 9.0, 11.0
DPI = 100

RISING: Colormap = LinearSegmentedColormap.from_list("rising", ["#f5f6f4", "#9fc0dc", POSITIVE, "#0c2d4b"])
SIGNED: Colormap = LinearSegmentedColormap.from_list("signed", [NEGATIVE, "#eab596", "#f7f7f5", "#9fc0dc", POSITIVE])
MISSING = "#e7e5df"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that lays itself out.

    Args:
        width: inches.
        height: inches.
    """
    return _LiteralFigure(figsize=(width, height), dpi=DPI, facecolor=PAPER, layout="constrained")


class _LiteralFigure(Figure):
    """Shows all texts as they are written: two dollars in a label or a token of others are no formula."""

    def draw(self, renderer: RendererBase) -> None:
        for text in self.findobj(Text):
            assert isinstance(text, Text)
            text.set_parse_math(False)
        with rc_context({"text.parse_math": False}):  # for ticks that are made now
            super().draw(renderer)


def dress(axes: Axes, title: str, *, note: str = "", x: str = "", y: str = "") -> None:
    """Title and note above, names of the axes with their units, and quiet lines.

    Args:
        axes: what to dress.
        title: what is shown.
        note: of what, in a second line.
        x: name of the horizontal axis.
        y: name of the vertical axis.
    """
    axes.set_title(title, loc="left", fontsize=LARGE, fontweight="bold", color=INK, pad=20 if note else 8)
    if note:
        axes.annotate(
            note, (0, 1), xytext=(0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=PLAIN,
            color=QUIET, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel(x, fontsize=PLAIN, color=QUIET)
    axes.set_ylabel(y, fontsize=PLAIN, color=QUIET)
    axes.tick_params(labelsize=SMALL, colors=QUIET, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.set_axisbelow(True)


def rule(axes: Axes, which: str) -> None:
    """Quiet lines across, for reading values off.

    Args:
        axes: what to rule.
        which: x or y, the axis of the values.
    """
    axes.grid(axis=which, color=RULE, linewidth=0.7)  # type: ignore[arg-type]


def explain(axes: Axes) -> None:
    """A legend in one line below the picture.

    Args:
        axes: what it is of.
    """
    handles, labels = axes.get_legend_handles_labels()
    figure = axes.get_figure()
    assert figure is not None
    figure.legend(
        handles, labels, loc="outside lower right", ncols=len(labels), frameon=False, fontsize=SMALL, labelcolor=QUIET
    )


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places moved up as little as leaves a gap between neighbours.

    Args:
        places: where things would be.
        gap: least distance.
    """
    moved = list(places)
    latest = -np.inf
    for idx in sorted(range(len(places)), key=lambda idx: places[idx]):
        moved[idx] = latest = max(places[idx], latest + gap)
    return moved


def heat_map(
    axes: Axes,
    matrix: np.ndarray,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    is_annotated: bool,
    neutral: float | None = None,
) -> None:
    """Cells coloured by value, both ways from a neutral one where there is one; cells without a value are grey.

    Args:
        axes: where to draw.
        matrix: values, [n_rows, n_columns], the first row at the bottom.
        rows: their names.
        columns: their names.
        label: what the values are, with their unit.
        is_annotated: whether values are written into the cells.
        neutral: the value that says nothing; None given: 0 where some values are below it.
    """
    norm, colours = _scale(matrix, neutral)
    colours = colours.with_extremes(bad=MISSING)
    image = axes.pcolormesh(
        np.ma.masked_invalid(matrix),
        cmap=colours,
        norm=norm,
        edgecolors=PAPER,
        linewidth=1.2 if matrix.size < 900 else 0,
    )
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, rotation=90 if len(columns) > 24 else 0)
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    if is_annotated:
        is_sparse = np.mean(matrix == 0) > 0.5  # where most cells are zero, writing so tells nothing
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value) and not (is_sparse and value == 0):
                red, green, blue, _ = colours(norm(value))
                is_dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.55
                axes.text(
                    column + 0.5, row + 0.5, figure_text(value, matrix), ha="center", va="center", fontsize=SMALL,
                    color=PAPER if is_dark else INK,
                )  # fmt: skip
    figure = axes.get_figure()
    assert figure is not None
    bar = figure.colorbar(image, ax=axes, fraction=0.035, pad=0.02, aspect=28)
    bar.set_label(label, fontsize=PLAIN, color=QUIET)
    bar.ax.tick_params(labelsize=SMALL, colors=QUIET, length=0)
    bar.outline.set_visible(False)


def figure_text(value: float, matrix: np.ndarray) -> str:
    """A value as short as its neighbours allow: whole where all are.

    Args:
        value: one of the matrix.
        matrix: all values.
    """
    finite = matrix[np.isfinite(matrix)]
    if np.all(finite == np.round(finite)):
        return f"{value:.0f}"
    if abs(value) < 0.005:
        return "0"
    return f"{value:.2f}".replace("-", "−").replace("0.", ".", 1) if abs(value) < 1 else f"{value:.1f}"


def token_name(token: str) -> str:
    """A token as short as it can be read: without the blanks around it, where there is more to it.

    Args:
        token: raw text.
    """
    return visible(token.strip() or token)


def _scale(matrix: np.ndarray, neutral: float | None) -> tuple[Normalize, Colormap]:
    finite = matrix[np.isfinite(matrix)]
    if finite.size and (neutral is not None or finite.min() < 0):
        middle = neutral or 0.0
        bound = max(float(np.abs(finite - middle).max()), 1e-9)
        low = max(middle - bound, 0.0) if finite.min() >= 0 else middle - bound
        return TwoSlopeNorm(middle, min(low, middle - 1e-9), middle + bound), SIGNED
    return Normalize(0, float(finite.max()) if finite.size and finite.max() > 0 else 1), RISING
