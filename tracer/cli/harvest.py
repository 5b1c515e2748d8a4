"""What every feature fires on over a reference corpus: made once for a set of features, read beside many runs."""

from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.printing import make_console
from tracer.cli.stages import Actors, Inline, LogFile, Out, Profile

HarvestPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML of settings, see configs/harvest-demo.yaml")]


def harvest(
    config: HarvestPath,
    out: Out = None,
    inline: Inline = False,
    actors: Actors = None,
    profile: Profile = False,
    log_file: LogFile = None,
) -> None:
    """Statistics and examples of every feature over a reference corpus; run it again to go on after a stop."""
    from tracer.config.harvest import load_harvest_config
    from tracer.config.run import with_runner
    from tracer.errors import RunError
    from tracer.run import harvesting

    settings = with_runner(load_harvest_config(config), n_actors=actors, profile=profile or None, log_file=log_file)
    result = harvesting.harvest(settings, out, inline=inline, console=make_console())
    if result.n_windows == 0:
        raise RunError(
            result.root,
            found=f"no usable document, {result.n_failures} failures",
            expected="at least one window",
            to_do=f"See the messages: tracer sql {result.root} 'SELECT * FROM failures'",
        )
    make_console().print(
        f"{result.n_harvested} documents, {result.n_windows} windows, {result.n_failures} failures in {result.root}",
        highlight=False,
    )
