"""The page of a feature: one HTML file about what it does over a reference corpus, and in the graphs of a run; or pages
of many, with links among them.
"""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from tracer import __version__
from tracer.tables.database import Connection
from tracer.tables.joining import connect_harvest
from tracer.views.feature_circuits import read_in_run
from tracer.views.feature_readings import read_first, read_on_corpus
from tracer.views.page import make_environment, read_template, write_html
from tracer.views.records import FeatureRef
from tracer.views.results.harvest import Harvest


def write_feature_page(harvest: Path, layer: int, feature: int, target: Path, *, run: Path | None = None) -> None:
    """Write the page of a feature to `target`, whole or not at all.

    Args:
        harvest: results.duckdb of a harvest.
        layer: the feature's layer.
        feature: its index there.
        target: the file; folders above it are made.
        run: results.duckdb of a run of the same transcoders, for circuits and labels.

    Raises:
        ArtifactError: as `tracer.tables.joining.connect_harvest`.
        DataError: the feature was not harvested.
    """
    write_html(render_feature_page(harvest, layer, feature, run=run), target)


def render_feature_page(harvest: Path, layer: int, feature: int, *, run: Path | None = None) -> str:
    """The page as HTML text; arguments and errors as of `write_feature_page`."""
    with connect_harvest(harvest, run) as connection:
        return _render(connection, layer, feature, has_run=run is not None, pages={})


def write_feature_pages(harvest: Path, folder: Path, n_features: int, *, run: Path | None = None) -> int:
    """Write the pages of the first features to a folder, with links among them and a list, `index.html`.

    Args:
        harvest: results.duckdb of a harvest.
        folder: where; made where it is absent.
        n_features: most features: those with most influence in the graphs of the run, or that fire most often.
        run: results.duckdb of a run of the same transcoders.

    Returns:
        How many features have a page.

    Raises:
        ArtifactError: as `tracer.tables.joining.connect_harvest`.
    """
    with connect_harvest(harvest, run) as connection:
        rows = read_first(connection, n_features, has_run=run is not None)
        pages = {row.ref.name: f"L{row.ref.layer}-{row.ref.feature}.html" for row in rows}
        for row in rows:
            text = _render(connection, row.ref.layer, row.ref.feature, has_run=run is not None, pages=pages)
            write_html(text, folder / pages[row.ref.name])
        index = (
            make_environment()
            .get_template("features.html.j2")
            .render(rows=rows, pages=pages, about=Harvest(connection).about, has_run=run is not None, **_look())
        )
    write_html(index, folder / "index.html")
    return len(rows)


def _render(connection: Connection, layer: int, feature: int, *, has_run: bool, pages: dict[str, str]) -> str:
    on_corpus = read_on_corpus(Harvest(connection), layer, feature, has_run=has_run)
    in_run = read_in_run(connection, layer, feature) if has_run else None
    label = None if in_run is None else in_run.figures["label"]
    return make_environment().get_template("feature.html.j2").render(
        feature=on_corpus, in_run=in_run, ref=FeatureRef(layer=layer, feature=feature, label=label), pages=pages,
        **_look(),
    )  # fmt: skip


def _look() -> dict[str, Any]:
    environment = make_environment()
    return {
        "version": __version__,
        "style": Markup(read_template(environment, "page.css")),
        "feature_style": Markup(read_template(environment, "feature.css")),
    }
