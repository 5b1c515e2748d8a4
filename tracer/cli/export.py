"""`tracer export`: the features and graphs of a run in the files of other tools."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.text import Text

from tracer.cli.outputs import check_file
from tracer.cli.printing import database_of, make_console, print_no_features, print_written
from tracer.cli.stages import RunPath
from tracer.errors import ConfigError

if TYPE_CHECKING:
    from tracer.views.exports.tally import ExportSummary, Progress

Form = Literal["pack", "files"]
Hyperedges = Literal["graphs", "sets"]
VIEWER, NEURONPEDIA, HIF = "For circuit-tracer", "For neuronpedia", "For hif"


def export(
    run: RunPath,
    format: Annotated[Literal["circuit-tracer", "neuronpedia", "hif"], typer.Option("--format", help="whose files")],
    out: Annotated[Path, typer.Option("--out", "-o", help="new or empty folder; for hif, a JSON file")],
    form: Annotated[
        Form | None,
        typer.Option(help="pack (default): to put on the hub; files: to look at from here", rich_help_panel=VIEWER),
    ] = None,
    graphs: Annotated[
        int,
        typer.Option(
            min=0, help="graphs written too: right answers first, then the most complete", rich_help_panel=VIEWER
        ),
    ] = 0,
    prompt_id: Annotated[
        list[str] | None,
        typer.Option(help="a prompt whose graphs are written too; may be given again", rich_help_panel=VIEWER),
    ] = None,
    scan: Annotated[
        str | None,
        typer.Option(
            help="where viewers look for the features, such as org/repo; else the run's set", rich_help_panel=VIEWER
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="YAML file of `tracer import groups`, shown in the graphs", rich_help_panel=VIEWER),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="YAML file: release, model_id, source_set, creator_id, ...", rich_help_panel=NEURONPEDIA),
    ] = None,
    which: Annotated[
        Hyperedges | None,
        typer.Option(help="hyperedges: the features of each of the graphs (default), or sets", rich_help_panel=HIF),
    ] = None,
) -> None:  # fmt: skip
    """The features of a run for circuit-tracer's viewer, with graphs, or for Neuronpedia's bulk import; its hypergraph.

    Example: tracer export runs/demo --format circuit-tracer --form files --graphs 5 -o shown, then
    circuit-tracer start-server --graph_file_dir shown
    """
    from tracer.run.folder import check_out

    for_viewer = {"--form": form, "--graphs": graphs, "--prompt-id": prompt_id, "--scan": scan, "--groups": groups}
    if format == "hif":
        _refuse(for_viewer | {"--settings": settings}, format)
        return _export_hif(database_of(run), check_out(out.parent) / out.name, which or "graphs")
    folder, database = check_out(out), database_of(run)
    _refuse({"--which": which}, format)
    if format == "neuronpedia":
        _refuse(for_viewer, format)
        summary = _export_neuronpedia(database, folder, settings)
    else:
        _refuse({"--settings": settings}, format)
        chosen = _choose_graphs(database, graphs, prompt_id or [], groups)
        summary = _export_circuit_tracer(database, folder, form or "pack", chosen, scan, groups)
    _print_summary(summary)
    return print_written(out)


def _refuse(options: dict[str, Any], format: str) -> None:
    """Options that say nothing for this format."""
    given = [name for name, value in options.items() if value]
    if given:
        raise ConfigError(
            "export", found=f"{given[0]} with --format {format}", expected=f"options of {format}",
            to_do="Leave it out, or choose the other format.",
        )  # fmt: skip


def _choose_graphs(database: Path, n_graphs: int, prompt_ids: list[str], groups: Path | None) -> list[str]:
    from tracer.views.exports.run_graphs import choose_graphs

    chosen = choose_graphs(database, prompt_ids=prompt_ids, n_best=n_graphs)
    if groups is not None and not chosen:
        raise ConfigError(
            "export", found="--groups without a graph", expected="graphs that show them",
            to_do="Give --graphs or --prompt-id.",
        )  # fmt: skip
    return chosen


def _export_circuit_tracer(
    database: Path, out: Path, form: Form, graph_ids: list[str], scan: str | None, groups: Path | None
) -> "ExportSummary":
    from tracer.graph.formats.groups import load_groups
    from tracer.views.exports.run_graphs import export_for_viewer

    if scan == "":
        raise ConfigError("export", found="an empty --scan", expected="such as org/repo", to_do="Name it.")
    named = None if groups is None else load_groups(groups)
    with _bar() as progress:
        written = export_for_viewer(
            database, out, graph_ids=graph_ids, form=form, scan=scan, groups=named, progress=progress
        )
    for graph in written.graphs:
        make_console().print(Text(f"graph {graph.slug}"), soft_wrap=True)
        if graph.query:
            make_console().print(Text(f"  with its groups: index.html?{graph.query}"), soft_wrap=True)
    if not written.scan.is_found:
        print_no_features(written.scan.name)
    return written.features


def _export_neuronpedia(database: Path, out: Path, settings: Path | None) -> "ExportSummary":
    from tracer.views.exports.neuronpedia import export_neuronpedia
    from tracer.views.exports.neuronpedia_settings import NeuronpediaSettings, load_neuronpedia_settings

    if settings is None:
        required = [name for name, field in NeuronpediaSettings.model_fields.items() if field.is_required()]
        raise ConfigError(
            "export", found="no --settings", expected=f"a YAML file with {', '.join(required)}",
            to_do="Write one and name it with --settings.",
        )  # fmt: skip
    with _bar() as progress:
        return export_neuronpedia(database, out, load_neuronpedia_settings(settings), progress)


def _export_hif(database: Path, out: Path, which: Hyperedges) -> None:
    from tracer.views.exports.hif import export_hif

    check_file(out, endings=[".json"])
    written = export_hif(database, out, which)
    line = f"{written.n_edges} hyperedges over {written.n_nodes} nodes, {written.n_incidences} incidences"
    make_console().print(line, highlight=False)
    print_written(out)


@contextmanager
def _bar() -> Iterator["Progress"]:
    """A bar in a terminal; elsewhere nothing is printed."""
    from rich.progress import Progress as Bar

    console = make_console()
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("features", total=None)
        yield lambda n_done, n_all: bar.update(task, completed=n_done, total=n_all)


def _print_summary(found: "ExportSummary") -> None:
    labels = f", {found.n_labels} labels" if found.n_labels else ""
    lines = [f"{found.n_features} features of {found.n_layers} layers, {found.n_examples} examples{labels}"]
    if found.n_features_left_out or found.n_examples_left_out:
        lines.append(f"left out: {found.n_features_left_out} features, {found.n_examples_left_out} examples")
    make_console().print("\n".join(lines), highlight=False)
