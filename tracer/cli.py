"""The command line: one command per stage, and doors to the tables; thin, and light until a command needs more."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from tracer.errors import TracerError

if TYPE_CHECKING:
    import polars as pl

    from tracer.config import RunConfig
    from tracer.graph import Graph
    from tracer.run.pipeline import RunResult

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Find the circuits of a transformer over a whole corpus: attribution graphs, tables, labels.",
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of settings, see configs/demo.yaml")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="run folder")]
Out = Annotated[str | None, typer.Option("--out", help="run folder to make or go on with; runner.out if not given")]
Inline = Annotated[bool, typer.Option("--inline", help="work in this process, without Ray")]
Actors = Annotated[int | None, typer.Option("--actors", min=1, help="Ray actors, instead of runner.n_actors")]


UNLIMITED_WIDTH = 100_000
"""Characters of a line where no terminal limits it, so that a redirected table is never cut."""


class Format(StrEnum):
    """How `tracer sql` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@app.command()
def run(config: ConfigPath, out: Out = None, inline: Inline = False, actors: Actors = None) -> None:
    """Everything from prompts to tables, labels and a page; run it again to go on after a stop."""
    from tracer.run import pipeline

    result = pipeline.run(_settings(config, actors), out, inline=inline, console=_console())
    _print_summary(result.database)
    _check_usable(result)


@app.command()
def trace(config: ConfigPath, out: Out = None, inline: Inline = False, actors: Actors = None) -> None:
    """Only the first stage: attribution graphs of the corpus, as committed parts."""
    from tracer.run import pipeline

    result = pipeline.trace(_settings(config, actors), out, inline=inline, console=_console())
    _console().print(f"{result.n_graphs} graphs, {result.n_failures} failures in {result.root}", highlight=False)
    _check_usable(result)


@app.command()
def aggregate(run: RunPath, inline: Inline = False) -> None:
    """Tables, labels and page from the shards that are committed by now."""
    from tracer.run import pipeline

    _print_summary(pipeline.aggregate_run(run, inline=inline, console=_console()).database)


@app.command()
def label(run: RunPath) -> None:
    """Labels and page anew from the tables."""
    from tracer.run import pipeline

    pipeline.label_run(run, console=_console())


@app.command()
def show(run: RunPath) -> None:
    """The summary of a run."""
    _print_summary(_database(run))


@app.command()
def tables(name: Annotated[str | None, typer.Argument(help="one table; all if not given")] = None) -> None:
    """The tables of a run: columns, types, units, meanings."""
    from tracer.errors import DataError
    from tracer.tables.schema import TABLES

    if name is not None and name not in TABLES:
        raise DataError(f"table {name}", found="no such table", expected=", ".join(TABLES), to_do="Name one of them.")
    for table in [TABLES[name]] if name else TABLES.values():
        columns = RichTable("column", "type", "unit", "meaning", box=None, header_style="dim", pad_edge=False)
        for column in table.columns:
            is_key = column.name in table.key
            columns.add_row(
                Text(column.name, style="bold" if is_key else ""), column.type, column.unit, Text(column.meaning)
            )
        _console().print(Text.assemble((table.name, "bold"), f": one row per {table.grain} (key in bold)"), columns, "")


@app.command()
def sql(
    run: RunPath,
    query: Annotated[str, typer.Argument(metavar="QUERY", help='such as "SELECT * FROM features LIMIT 5"')],
    output: Annotated[Format, typer.Option("--format", help="how to print the answer")] = Format.TABLE,
) -> None:
    """Ask the tables of a run in SQL."""
    from tracer.tables.database import query as ask
    from tracer.views.frames import flat

    frame = ask(_database(run), query)
    if output is Format.TABLE:
        _print_frame(frame)
    elif output is Format.CSV:
        typer.echo(flat(frame).write_csv(), nl=False)
    else:
        typer.echo(frame.write_json())


@app.command()
def attribute(
    prompt: Annotated[str, typer.Argument(help="the text whose next token is explained")],
    model: Annotated[str, typer.Option(help="checkpoint: folder, package:NAME/path or hub name")],
    transcoders: Annotated[str, typer.Option(help="transcoder set: folder or package:NAME/path")],
    device: Annotated[str | None, typer.Option(help="cpu or cuda; CUDA if present when not given")] = None,
    n_nodes: Annotated[int, typer.Option(min=1, help="nodes shown")] = 15,
    out: Annotated[Path | None, typer.Option(help="folder for the pruned graph: nodes.parquet, edges.parquet")] = None,
) -> None:
    """The attribution graph of one prompt: its targets, strongest nodes and scores."""
    from transformers.utils.logging import disable_progress_bar

    from tracer import ReplacementModel
    from tracer import attribute as attribute_prompt
    from tracer.model.device import resolve_device
    from tracer.run.folder import check_out

    folder = None if out is None else check_out(out)
    found_device = resolve_device(device)
    disable_progress_bar()
    graph = attribute_prompt(prompt, ReplacementModel.from_pretrained(model, transcoders, device=found_device))
    _print_graph(graph, n_nodes)
    if folder is not None:
        _save_graph(graph.prune(), folder)


@app.command()
def estimate(
    config: ConfigPath,
    n_tokens: Annotated[
        int | None, typer.Option(min=2, help="length of every prompt; else as the first prompts of the corpus")
    ] = None,
    active_per_position: Annotated[
        float | None, typer.Option(min=0.0, help="features that fire per layer and position; else k, or a guess")
    ] = None,
    gflops: Annotated[
        float | None, typer.Option(min=0.0, help="matrix products per actor, GFLOP/s; else measured here for a moment")
    ] = None,
) -> None:
    """Memory of an actor and time of 1,000 prompts, before anything is loaded; warns when it will not fit."""
    from tracer.config import load_config
    from tracer.run.estimate import estimate_run, print_estimate

    settings, rate = load_config(config), None if gflops is None else gflops * 1e9
    found = estimate_run(settings, n_tokens=n_tokens, n_active=active_per_position, rate=rate)
    print_estimate(found, settings, _console())


@app.command()
def config(config: ConfigPath) -> None:
    """Check a configuration and print every setting, the defaults too."""
    from tracer.config import load_config

    settings = load_config(config)
    typer.echo(json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False))
    typer.echo(f"fingerprint {settings.fingerprint()}", err=True)


@app.command()
def version() -> None:
    """The version of tracer and of what it stands on."""
    from tracer.run.versions import package_versions

    for name, number in package_versions().items():
        typer.echo(f"{name} {number}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a `TracerError` is one message and exit code 2, Ctrl-C exit code 130."""
    try:
        app(arguments)
    except TracerError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == 130:
            Console(stderr=True).print("stopped; the same command goes on from here", style="yellow")
        raise


def _settings(path: Path, n_actors: int | None) -> "RunConfig":
    from tracer.config import load_config

    settings = load_config(path)
    if n_actors is None:
        return settings
    return settings.model_copy(update={"runner": settings.runner.model_copy(update={"n_actors": n_actors})})


def _console(width_elsewhere: int = 100) -> Console:
    """As wide as the terminal; where there is none, as wide as asked unless COLUMNS says otherwise."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = width_elsewhere
    return console


def _database(run: Path) -> Path:
    return run if run.suffix == ".duckdb" else run / "results.duckdb"


def _print_summary(database: Path) -> None:
    from tracer.views.summary import print_summary, summarise

    print_summary(summarise(database), _console())


def _check_usable(result: "RunResult") -> None:
    from tracer.errors import RunError

    if result.n_graphs == 0:
        raise RunError(
            str(result.root),
            found=f"no usable prompt, {result.n_failures} failures",
            expected="at least one graph",
            to_do=f"See the messages: tracer sql {result.root} 'SELECT * FROM failures'",
        )


def _print_frame(frame: "pl.DataFrame") -> None:
    from tracer.views.frames import print_frame

    print_frame(frame, _console(width_elsewhere=UNLIMITED_WIDTH))


def _print_graph(graph: "Graph", n_nodes: int) -> None:
    import polars as pl

    console, scores, pruned = _console(), graph.scores(), graph.prune()
    nodes, edges = pruned.nodes(), pruned.edges()
    for target in graph.targets:
        console.print(Text(f"target {target.token!r}, probability {target.weight:.3f}"))
    console.print(Text(f"replacement {scores.replacement:.3f}, completeness {scores.completeness:.3f}"))
    kinds = ", ".join(f"{n} {kind}" for kind, n in nodes.group_by("kind").len().sort("kind").iter_rows())
    console.print(Text(f"{nodes.height} nodes kept ({kinds}), {edges.height} edges"))
    columns = ["kind", "layer", "pos", "feature", "token", "activation", "influence"]
    _print_frame(
        nodes.filter(pl.col("kind") != "logit").sort("influence", descending=True).head(n_nodes).select(columns)
    )


def _save_graph(graph: "Graph", folder: Path) -> None:
    from io import BytesIO

    from tracer.tables.parts import write_file

    for name, frame in (("nodes", graph.nodes()), ("edges", graph.edges())):
        content = BytesIO()
        frame.write_parquet(content)
        write_file(folder / f"{name}.parquet", content.getvalue())


if __name__ == "__main__":
    main()
