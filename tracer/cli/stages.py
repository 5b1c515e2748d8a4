"""The commands of a run: one per stage, and what it will be like before it starts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.printing import make_console, print_summary_of

if TYPE_CHECKING:
    from tracer.run.pipeline import RunResult

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of settings, see configs/demo.yaml")]
PLACES = "a path or s3://bucket/folder, gs://bucket/folder, abfss://container@account.dfs.core.windows.net/folder"
RunPath = Annotated[str, typer.Argument(metavar="RUN", help=f"run folder: {PLACES}")]
Out = Annotated[
    str | None,
    typer.Option("--out", help=f"run folder to make or go on with, {PLACES}; else runner.out"),
]
Inline = Annotated[bool, typer.Option("--inline", help="work in this process, without Ray")]
Actors = Annotated[int | None, typer.Option("--actors", min=1, help="Ray actors, instead of runner.n_actors")]


Profile = Annotated[bool, typer.Option("--profile", help="say where the time of the workers goes")]
LogFile = Annotated[
    str | None, typer.Option("--log-file", help="append what happens to this file, one JSON object a line")
]


def run(
    config: ConfigPath,
    out: Out = None,
    inline: Inline = False,
    actors: Actors = None,
    profile: Profile = False,
    log_file: LogFile = None,
) -> None:
    """Everything from prompts to tables, labels and a page; run it again to go on after a stop."""
    from tracer.config.run import load_config, with_runner
    from tracer.run import pipeline

    settings = with_runner(load_config(config), n_actors=actors, profile=profile or None, log_file=log_file)
    result = pipeline.run(settings, out, inline=inline, console=make_console())
    print_summary_of(result.root)
    _check_usable(result)


def trace(
    config: ConfigPath,
    out: Out = None,
    inline: Inline = False,
    actors: Actors = None,
    profile: Profile = False,
    log_file: LogFile = None,
) -> None:
    """Only the first stage: attribution graphs of the corpus, as committed parts."""
    from tracer.config.run import load_config, with_runner
    from tracer.run import pipeline

    settings = with_runner(load_config(config), n_actors=actors, profile=profile or None, log_file=log_file)
    result = pipeline.trace(settings, out, inline=inline, console=make_console())
    make_console().print(f"{result.n_graphs} graphs, {result.n_failures} failures in {result.root}", highlight=False)
    _check_usable(result)


def aggregate(
    run: RunPath,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="the run's settings with others of `aggregate`, which count from now on"),
    ] = None,
    inline: Inline = False,
) -> None:
    """Tables, labels and page from the shards that are committed by now."""
    from tracer.config.run import load_config
    from tracer.run import pipeline

    settings = None if config is None else load_config(config)
    print_summary_of(pipeline.aggregate_run(run, config=settings, inline=inline, console=make_console()).root)


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
    print_estimate(found, settings, make_console())


def config(config: ConfigPath) -> None:
    """Check a configuration and print every setting, the defaults too."""
    from tracer.config.harvest import load_any_config

    settings = load_any_config(config)
    typer.echo(json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False))
    typer.echo(f"fingerprint {settings.fingerprint()}", err=True)


def _check_usable(result: "RunResult") -> None:
    from tracer.errors import RunError

    if result.n_graphs == 0:
        raise RunError(
            str(result.root),
            found=f"no usable prompt, {result.n_failures} failures",
            expected="at least one graph",
            to_do=f"See the messages: tracer sql {result.root} 'SELECT * FROM failures'",
        )
