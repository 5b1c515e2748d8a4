"""The doors to the tables of a run, and to what made them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table as RichTable
from rich.text import Text

from tracer.cli.printing import database_of, make_console, print_summary_of, print_table
from tracer.cli.stages import RunPath


class Format(StrEnum):
    """How `tracer sql` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def show(run: RunPath) -> None:
    """The summary of a run."""
    print_summary_of(run)


def tables(name: Annotated[str | None, typer.Argument(help="one table; all if not given")] = None) -> None:
    """The tables of a run, and those of a harvest (harvest.NAME): columns, types, units, meanings."""
    from tracer.errors import DataError
    from tracer.tables.harvest_tables import HARVEST_TABLES
    from tracer.tables.joining import SCHEMA
    from tracer.tables.schema import TABLES

    known = TABLES | {f"{SCHEMA}.{table.name}": table for table in HARVEST_TABLES.values()}
    if name is not None and name not in known:
        raise DataError(f"table {name}", found="no such table", expected=", ".join(known), to_do="Name one of them.")
    for shown, table in ({name: known[name]} if name else known).items():
        columns = RichTable("column", "type", "unit", "meaning", box=None, header_style="dim", pad_edge=False)
        for column in table.columns:
            is_key = column.name in table.key
            columns.add_row(
                Text(column.name, style="bold" if is_key else ""), column.type, column.unit, Text(column.meaning)
            )
        make_console().print(Text.assemble((shown, "bold"), f": one row per {table.grain} (key in bold)"), columns, "")


def groups(
    run: RunPath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of `tracer import groups`")],
    by: Annotated[
        str | None, typer.Option(help="column of `prompts` by whose values graphs are counted", show_default=False)
    ] = None,
) -> None:
    """In how many graphs of a run named groups are found: any of their features, and all of them."""
    from tracer.aggregate.group_support import group_support
    from tracer.graph.formats.groups import load_groups

    print_table(group_support(database_of(run), load_groups(file).groups, by=by))


def sql(
    run: RunPath,
    query: Annotated[str, typer.Argument(metavar="QUERY", help='such as "SELECT * FROM features LIMIT 5"')],
    output: Annotated[Format, typer.Option("--format", help="how to print the answer")] = Format.TABLE,
) -> None:
    """Ask the tables of a run in SQL."""
    from tracer.tables.database import query as ask
    from tracer.views.frames import flat

    frame = ask(database_of(run), query)
    if output is Format.TABLE:
        print_table(frame)
    elif output is Format.CSV:
        typer.echo(flat(frame).write_csv(), nl=False)
    else:
        typer.echo(frame.write_json())


def version() -> None:
    """The version of tracer and of what it stands on."""
    from tracer.run.versions import package_versions

    for name, number in package_versions().items():
        typer.echo(f"{name} {number}")
