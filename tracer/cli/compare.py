"""`tracer compare`: what is in the graphs of one set of prompts and not of another."""

from contextlib import ExitStack
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.outputs import check_file
from tracer.cli.printing import database_of, make_console, print_table, print_written
from tracer.cli.stages import RunPath
from tracer.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from tracer.aggregate.comparing.compare import Comparison
    from tracer.config import ComparisonConfig

N_SHOWN = 20


class ComparisonFormat(StrEnum):
    """How a comparison is printed or written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class ItemKind(StrEnum):
    """What is compared."""

    FEATURE = "feature"
    PAIR = "pair"
    EDGE = "edge"


def compare(
    run: RunPath,
    first: Annotated[str, typer.Option(help="SQL condition on `prompts`, such as \"task = 'antonym'\"")],
    second: Annotated[str | None, typer.Option(help="the same for the other side", show_default=False)] = None,
    counterfactual: Annotated[
        bool, typer.Option("--counterfactual", help="compare with the prompts' partners by pair_id")
    ] = False,
    other_run: Annotated[
        str | None,
        typer.Option(help="run of the second side, over the same model and transcoders", show_default=False),
    ] = None,
    paired: Annotated[bool, typer.Option("--paired", help="compare pair by pair; counterfactuals are")] = False,
    kind: Annotated[ItemKind, typer.Option(help="what is compared")] = ItemKind.FEATURE,
    min_support: Annotated[int, typer.Option(min=1, help="least graphs of both sides that hold an item")] = 5,
    n_permutations: Annotated[int, typer.Option("--permutations", min=0, help="for the family-wise p")] = 1000,
    seed: Annotated[int, typer.Option(help="seed of the permutations")] = 0,
    stratify_by: Annotated[
        str | None, typer.Option(help="column of `prompts` within which sides are permuted", show_default=False)
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help=f"how many items, largest effect first; else {N_SHOWN} in a table, and else all"),
    ] = None,
    output: Annotated[ComparisonFormat, typer.Option("--format", help="how to print it")] = ComparisonFormat.TABLE,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="file for it", show_default=False)] = None,
) -> None:
    """What is in the graphs of one set of prompts and not of another: differences, intervals, chances.

    Example: tracer compare RUN --first "task = 'two_hop_capital' AND state = 'Texas'" --counterfactual
    """
    from tracer.config import ComparisonConfig

    output = _format_of(output, out)
    settings = ComparisonConfig(
        name="", first=first, second=_second(first, second, counterfactual, other_run), paired=paired or None,
        kinds=[kind.value], n_permutations=n_permutations, seed=seed, stratify_by=stratify_by,
    )  # fmt: skip
    _print(settings, [run] if other_run is None else [run, other_run], min_support, top, output, out)


def _format_of(output: ComparisonFormat, out: Path | None) -> ComparisonFormat:
    """The format that a file's ending says; without a file, the one asked for."""
    if out is None:
        if output is ComparisonFormat.PARQUET:
            raise ConfigError("--format parquet", found="no file", expected="-o FILE", to_do="Name a file.")
        return output
    check_file(out, endings=[f".{name.value}" for name in ComparisonFormat if name is not ComparisonFormat.TABLE])
    ending = ComparisonFormat(out.suffix[1:])
    if output not in {ComparisonFormat.TABLE, ending}:
        found = f"--format {output.value}"
        raise ConfigError(f"-o {out}", found=found, expected=f"{ending.value}", to_do="Leave out --format.")
    return ending


def _second(first: str, second: str | None, counterfactual: bool, other_run: str | None) -> str | None:
    """The second condition: between two runs the first one again, unless another is given; None for counterfactuals."""
    sides = {"--second": second is not None, "--counterfactual": counterfactual}
    given = [name for name, is_given in sides.items() if is_given]
    if len(given) == 2 or (not given and other_run is None):
        found = " and ".join(given) or "one side"
        expected = "--second COND, --counterfactual or --other-run RUN"
        raise ConfigError("compare", found=found, expected=expected, to_do="Say what to compare with.")
    return None if counterfactual else second or first


def _print(
    settings: "ComparisonConfig",
    runs: list[str],
    min_support: int,
    top: int | None,
    output: ComparisonFormat,
    out: Path | None,
) -> None:
    from tracer.aggregate.comparing.compare import compare_as
    from tracer.tables.database import connect
    from tracer.views.comparisons import with_labels

    databases = [database_of(run) for run in runs]
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(database)) for database in databases]
        both = (connections[0], connections[-1])
        found = compare_as(both, settings, min_support=min_support)
    n_items = N_SHOWN if top is None and output is ComparisonFormat.TABLE else top
    items = with_labels(found.items if n_items is None else found.items.head(n_items), databases)
    if output is ComparisonFormat.TABLE:
        _print_table(found, items)
    elif out is None:
        typer.echo(_as_bytes(items, output).decode())
    else:
        from tracer.files.writing import write_file

        write_file(out, _as_bytes(items, output))
        print_written(out)


def _print_table(found: "Comparison", items: "pl.DataFrame") -> None:
    from tracer.views.comparisons import shown, sides_line

    make_console().print(sides_line(found), highlight=False)
    print_table(shown(items))


def _as_bytes(items: "pl.DataFrame", output: ComparisonFormat) -> bytes:
    if output is ComparisonFormat.CSV:
        return items.write_csv().encode().rstrip(b"\n")
    if output is ComparisonFormat.JSON:
        return items.write_json().encode()
    content = BytesIO()
    items.write_parquet(content)
    return content.getvalue()
