"""`tracer feature`: the page of one feature of a harvest, or of many."""

from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.outputs import check_file
from tracer.cli.printing import database_of, print_written

HarvestPath = Annotated[str, typer.Argument(metavar="HARVEST", help="folder of a harvest, as RUN of other commands")]


def feature(
    harvest: HarvestPath,
    layer: Annotated[int | None, typer.Argument(min=0, metavar="LAYER", help="layer of the feature")] = None,
    feature: Annotated[int | None, typer.Argument(min=0, metavar="FEATURE", help="its index there")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML file to write; with --first, a folder", show_default=False)
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(help="run of the same transcoders: labels, graphs that hold it, edges", show_default=False),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(
            min=1, help="pages of so many features: most influence in the run, else most firings", show_default=False
        ),
    ] = None,
) -> None:
    """A page about one feature: where it fires, what it reads and writes, features like it, its part in circuits.

    Example: tracer feature runs/harvest 0 101 --run runs/demo -o L0-101.html; or --first 50 -o features
    """
    from tracer.errors import ConfigError
    from tracer.views.feature_page import write_feature_page, write_feature_pages

    is_one = layer is not None and feature is not None
    if out is None or is_one == (first is not None) or (layer is None) != (feature is None):
        raise ConfigError(
            "feature", found="no place to write to" if out is None else "not one of the two",
            expected="LAYER and FEATURE, or --first, and --out", to_do="See tracer feature --help.",
        )  # fmt: skip
    of_harvest, of_run = database_of(harvest), None if run is None else database_of(run)
    if first is None:
        assert layer is not None, "checked above"
        assert feature is not None, "checked above"
        check_file(out, endings=(".html",), option="--out")
        write_feature_page(of_harvest, layer, feature, out, run=of_run)
    else:
        from tracer.run.folder import check_out

        write_feature_pages(of_harvest, check_out(out), first, run=of_run)
    print_written(out)
