"""The command line: one command per stage, and doors to one prompt, to the tables and to other tools' files; thin, and
light until a command needs more.
"""

import signal
import sys

import typer
from rich.console import Console
from rich.text import Text

from tracer.cli.attribute import attribute
from tracer.cli.compare import compare
from tracer.cli.export import export
from tracer.cli.feature import feature
from tracer.cli.harvest import harvest
from tracer.cli.imports import import_app
from tracer.cli.labels import label, relabel
from tracer.cli.runs import gc, status, verify
from tracer.cli.stages import aggregate, config, estimate, run, trace
from tracer.cli.tables import groups, show, sql, tables, version
from tracer.errors import TracerError

STOPPED = 130
"""Exit code after Ctrl-C."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # circuit-tracer writes `--max_n_logits`; both spellings name the same option.
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
    help="Find the circuits of a transformer over a whole corpus: attribution graphs, tables, labels.",
)
for command in (
    run, trace, aggregate, harvest, label, relabel, status, verify, gc, show, tables, sql, groups, compare, feature,
    attribute, export, estimate, config, version,
):  # fmt: skip
    app.command()(command)
app.add_typer(import_app, name="import")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a `TracerError` is one message and exit code 2, Ctrl-C exit code 130, and so is SIGTERM on Ray."""
    try:
        app(arguments)
    except TracerError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code not in {STOPPED, signal.SIGTERM}:  # Ray's handler of SIGTERM exits with the number of the signal
            raise
        Console(stderr=True).print("stopped; the same command goes on from here", style="yellow")
        sys.exit(STOPPED)
