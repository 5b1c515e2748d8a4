"""The page of a run: one HTML file with its styles and pictures inside, which asks nothing of any network."""

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tracer.corpus.tokens import visible
from tracer.files.writing import rename_durably
from tracer.views import formats, readings
from tracer.views.graph_choice import choose_graph
from tracer.views.graph_svg import draw_graph
from tracer.views.page_readings import read_cards, read_histograms, read_layers, read_list_url
from tracer.views.summary import summarise

N_ROWS = 15
"""Rows of the tables of features, pairs and edges."""

N_CARDS, N_WINDOWS, N_CARD_TOKENS = 6, 6, 6
N_FAILURES = 50


def write_page(database: Path, target: Path) -> None:
    """Write the page of a finished run to `target`, whole or not at all.

    Raises:
        ArtifactError: `database` is absent or does not hold exactly one run.
    """
    write_html(render_page(database), target)


def write_html(text: str, target: Path) -> None:
    """Write a page, whole or not at all; folders above it are made.

    Args:
        text: the page.
        target: the file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(temporary, target)


def render_page(database: Path) -> str:
    """The page as HTML text."""
    summary = summarise(database, N_ROWS)
    axis, histograms = read_histograms(database, [feature.ref for feature in summary.features])
    graph = choose_graph(database)
    environment = make_environment()
    script = read_template(environment, "page.js")
    return environment.get_template("page.html.j2").render(
        summary=summary,
        list_url=read_list_url(database, [feature.ref for feature in summary.features]),
        axis=axis,
        histograms=histograms,
        cards=read_cards(database, N_CARDS, N_WINDOWS, N_CARD_TOKENS),
        graph=graph,
        drawing=draw_graph(graph) if graph else None,
        largest_q=readings.LARGEST_Q,
        layers=read_layers(database),
        failures=readings.read_failures(database, N_FAILURES).to_dicts(),
        style=Markup(read_template(environment, "page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def make_environment() -> Environment:
    """Templates of this package; text is escaped, and a figure is written as `<data value="exact">rounded</data>`."""
    environment = Environment(
        loader=PackageLoader("tracer.views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for figure in (formats.count, formats.share, formats.number, formats.chance, formats.span):
        environment.filters[figure.__name__] = _as_data(figure)
    environment.filters["visible"] = visible
    environment.filters["shorten"] = formats.shorten
    return environment


def _as_data(figure: Callable[..., str]) -> Callable[[int | float | None], Markup]:
    def write(value: int | float | None) -> Markup:
        if value is None:
            return Markup('<span title="not measured">{}</span>').format(formats.MISSING)
        return Markup('<data value="{}">{}</data>').format(repr(value), figure(value))

    return write


def read_template(environment: Environment, name: str) -> str:
    """A template's own text, as it stands.

    Args:
        environment: as `make_environment` gives it.
        name: such as page.css.
    """
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
