"""Commands that look after a run: how far it is, whether it is whole, what can be thrown away."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.printing import make_console
from tracer.cli.stages import RunPath

if TYPE_CHECKING:
    from rich.console import Console

    from tracer.run.status import Status

DAMAGED = 1
"""Exit code of `tracer verify` where something is wrong."""


def status(
    run: RunPath,
    usd_per_hour: Annotated[
        float | None, typer.Option(min=0.0, help="price of one GPU, or of a CPU core where actors reserve no GPU")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """How far a run is, how fast, at what cost, and what failed; while it works, or after."""
    from tracer.run.status import read_status

    found = read_status(run, usd_per_hour=usd_per_hour)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
    else:
        _print_status(found, make_console())


def verify(
    run: RunPath,
    heal: Annotated[
        bool, typer.Option("--heal", help="move what is damaged out of the way, so that `tracer run` makes it anew")
    ] = False,
) -> None:
    """Read everything that is committed and compare it with its receipts; exit code 1 where something is wrong."""
    from tracer.run import verifying

    console = make_console()
    if heal:
        found, left = verifying.heal(run, say=console.print)
    else:
        found = verifying.verify(run)
        left = found.damages
    for damage in found.damages:
        console.print(str(damage), style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"{found.n_receipts} of {found.n_shards} shards committed, {found.n_parts} parts read; results.duckdb "
        f"{found.results}: {len(found.damages) or 'nothing'} damaged",
        highlight=False,
        soft_wrap=True,
    )
    if heal and len(left) < len(found.damages):
        console.print("moved out of the way; `tracer run` with the run's configuration makes it anew", style="dim")
    if left:
        raise typer.Exit(DAMAGED)


def gc(
    run: RunPath, dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would go")] = False
) -> None:
    """Remove parts that no receipt names and temporary files, left by attempts that were killed."""
    from tracer.run.collecting import collect_garbage

    console = make_console()
    garbage = collect_garbage(run, remove=not dry_run, say=console.print)
    for path in garbage.paths if dry_run else ():
        console.print(str(path), markup=False, highlight=False, soft_wrap=True)
    done = "would be removed" if dry_run else "removed"
    console.print(f"{len(garbage.paths)} files, {garbage.n_bytes:,} bytes {done}", highlight=False)


def _print_status(status: "Status", console: "Console") -> None:
    from tracer.run.profiling import phases_line
    from tracer.run.progress import duration

    rate = "" if status.prompts_per_second is None else f", {status.prompts_per_second:.1f} per second"
    left = f", {duration(status.seconds_left)} left" if status.seconds_left else ""
    failures = ", ".join(f"{name} {number}" for name, number in status.failures.items())
    cost = status.cost
    price = "" if cost.usd is None else f", {cost.usd:.2f} USD"
    whole = "" if cost.hours_expected is None else f"; {cost.hours_expected:.3g} for the whole run"
    whole_price = "" if cost.usd_expected is None else f", {cost.usd_expected:.2f} USD"
    lines = [
        f"{status.run_id}: {status.state}" + (f" ({status.driver})" if status.driver else ""),
        f"shards {status.n_shards_done}/{status.n_shards}, {status.n_shards_left} left, "
        f"{status.n_shards_given_up} given up, {status.n_retried} tried more than once",
        f"prompts {status.n_prompts_done}/{status.n_prompts}{rate}{left}; time so far {duration(status.seconds)}",
        f"graphs {status.n_graphs}, rows {status.n_rows}, failures {status.n_failures}"
        + (f": {failures}" if failures else ""),
        f"{cost.unit}-hours held {cost.hours:.3g}{price}{whole}{whole_price}",
        *(
            f"process {actor.pid} on {actor.host}, {actor.device}: {actor.n_shards} shards, {actor.n_prompts} prompts, "
            f"busy {actor.utilisation:.0%} of {duration(actor.held_seconds)}"
            for actor in status.actors
        ),
        *([phases_line(status.phases)] if status.phases else []),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
