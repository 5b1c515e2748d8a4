"""`tracer import groups`: what somebody named, pinned and labelled in a viewer, as a YAML file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.outputs import check_file
from tracer.cli.printing import make_console, print_written
from tracer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tracer.graph.formats.groups import Groups


def groups(
    source: Annotated[
        str, typer.Argument(metavar="URL_OR_FILE", help="a viewer's or Neuronpedia's address, or a graph's .json")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="YAML file: groups, their members, pinned nodes, labels")],
    graph: Annotated[
        Path | None,
        typer.Option(help="the graph's .json, which tells features from errors and targets", show_default=False),
    ] = None,
    n_layers: Annotated[
        int | None, typer.Option(min=1, help="the model's layers, which tell features from targets alone")
    ] = None,
) -> None:  # fmt: skip
    """Named groups of features that somebody made in a viewer, with what is pinned and labelled there.

    Example: tracer import groups "https://www.neuronpedia.org/gemma-2-2b/graph?slug=dallas&..." -o groups.yaml
    """
    from tracer.graph.formats.groups import save_groups

    check_file(out, endings=(".yaml", ".yml"))
    is_address = "://" in source
    _check_options(source, is_address, graph, n_layers)
    found = _read_groups(source, is_address, graph, n_layers)
    n_pinned = len(found.pinned or ())
    if not (found.groups or n_pinned or found.labels):
        raise DataError(
            source[:200], found="no group, pinned node or label", expected="a view that somebody saved",
            to_do="Make groups in the viewer and copy its address, or save them into the file.",
        )  # fmt: skip
    save_groups(found, out)
    console, n_members = make_console(), sum(len(group.members) for group in found.groups)
    counts = f"{len(found.groups)} groups, {n_members} members, {n_pinned} pinned, {len(found.labels)} labels"
    console.print(counts, highlight=False)
    if is_address and graph is None:
        _print_doubts(found, n_layers)
    print_written(out)


def _check_options(source: str, is_address: bool, graph: Path | None, n_layers: int | None) -> None:
    given = [name for name, value in (("--graph", graph), ("--n-layers", n_layers)) if value is not None]
    if given and not is_address:
        raise ConfigError(
            source, found=given[0], expected="it with an address alone, since a graph's file has its nodes",
            to_do="Leave it out.",
        )  # fmt: skip
    if len(given) > 1:
        raise ConfigError(
            "import groups", found=" and ".join(given), expected="one of them", to_do="Leave out --n-layers."
        )


def _read_groups(source: str, is_address: bool, graph: Path | None, n_layers: int | None) -> "Groups":
    from tracer.graph.formats.graph_json import read_json
    from tracer.graph.formats.groups import Groups

    if not is_address:
        return read_json(source).groups()
    return Groups.from_url(source, nodes=None if graph is None else read_json(graph).nodes, n_layers=n_layers)


def _print_doubts(found: "Groups", n_layers: int | None) -> None:
    """An error is named `0_{layer}_{pos}`, a target like a feature above the last layer."""
    members = [member for group in found.groups for member in group.members]
    if n_layers is None and members:
        doubt = "ids of errors and targets cannot be told apart from features; --graph or --n-layers tells more"
    elif n_layers is not None and any(layer == 0 and feature < n_layers for layer, _, feature in members):
        doubt = "ids of errors cannot be told apart from features of layer 0; --graph tells"
    else:
        return
    make_console().print(f"members may be other nodes: {doubt}", highlight=False, soft_wrap=True)
