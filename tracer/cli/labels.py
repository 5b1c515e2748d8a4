"""The commands about labels: by rules or a language model, imported, or a person's own."""

import getpass
import re
from pathlib import Path
from typing import Annotated

import typer

from tracer.cli.printing import make_console
from tracer.cli.stages import Inline, RunPath
from tracer.errors import ConfigError

FEATURE = re.compile(r"L(\d+)/(\d+)")


def label(
    run: RunPath,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file with sections autointerp and labels: ask a language model too"),
    ] = None,
    harvest: Annotated[
        str | None,
        typer.Option("--harvest", help="harvest of the same transcoders, as RUN: texts, which scores need"),
    ] = None,
    embedding_model: Annotated[
        Path | None,
        typer.Option(
            "--embedding-model", help="folder of a sentence-transformers model: how alike are a feature's texts?"
        ),
    ] = None,
    explanations: Annotated[
        Path | None,
        typer.Option("--import", help="explanations in Neuronpedia's export format, which are not paid for again"),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="ask a sample, whose answers are kept, and say what the rest will cost")
    ] = False,
    inline: Inline = False,
) -> None:
    """Labels and page anew from the tables; with --config by a language model, tested; run it again to go on."""
    from tracer.config.labels import load_labelling_config
    from tracer.run.labelling import import_labels, label_run

    console = make_console()
    settings = None if config is None else load_labelling_config(config)
    if explanations is not None:
        n_labels = import_labels(run, explanations, console)
        console.print(f"{n_labels} labels imported", highlight=False)
    if estimate and settings is None:
        raise ConfigError("label", found="--estimate alone", expected="--config with it", to_do="Name the settings.")
    if embedding_model is not None and harvest is None:
        raise ConfigError(
            "label", found="--embedding-model without a harvest", expected="--harvest with it: its texts are compared",
            to_do="Make one with `tracer harvest`.",
        )  # fmt: skip
    found = label_run(
        run, config=settings, harvest=harvest, embedding_model=embedding_model, inline=inline, only_estimate=estimate,
        console=console,
    )  # fmt: skip
    if found is not None:
        cost = "unknown, for want of prices" if found.cost_usd is None else f"{found.cost_usd:.4f} USD"
        if found.unknown:
            cost += f" without {', '.join(found.unknown)}, of which none could be asked yet"
        margin = f" (± {found.margin_usd:.4f} for what can be written down already)" if found.margin_usd else ""
        console.print(
            f"left to ask: {found.n_labels} labels, {found.n_scores} tests, {found.n_deep} drafts and what settles "
            f"them, {found.n_groups} groups; cost: {cost}{margin}; the sample cost {found.spent_usd:.4f} USD",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def relabel(
    run: RunPath,
    target: Annotated[str, typer.Argument(help="L0/12 for a feature, else the target_id of a row of `labels`")],
    text: Annotated[str, typer.Argument(help="the label, at most 80 characters")],
    description: Annotated[str, typer.Option(help="more words about it")] = "",
    by: Annotated[str | None, typer.Option(help="who says so; else the name of the user")] = None,
) -> None:
    """A label of your own; it is shown from now on, and what was known stays beside it."""
    from tracer.autointerp.given import person_label
    from tracer.run.labelling import give_labels, target_kind

    found = FEATURE.fullmatch(target)
    key = (int(found[1]), int(found[2])) if found else None
    row = person_label(
        (target_kind(run, target, key), target), key, text, description=description, author=by or getpass.getuser()
    )
    give_labels(run, [row], make_console())
