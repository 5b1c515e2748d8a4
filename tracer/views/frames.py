"""Frames for people and for spreadsheets: printed as a table, or flattened for CSV."""

import json
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import polars as pl


def print_frame(frame: "pl.DataFrame", console: Console) -> None:
    """Every row, numbers to the right, and how many rows there are."""
    table = Table(*frame.columns, box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column, kind in zip(table.columns, frame.dtypes, strict=True):
        column.justify = "right" if kind.is_numeric() else "left"
    for row in frame.iter_rows():
        table.add_row(*(Text(_cell(value)) for value in row))
    console.print(table)
    console.print(f"{frame.height} rows", style="dim", highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "[" + ", ".join(_cell(item) for item in value) + "]"
    return str(value)


def flat(frame: "pl.DataFrame") -> "pl.DataFrame":
    """CSV has no lists, structs or maps: they become JSON text."""
    import polars as pl

    def as_text(value: object) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, default=str)

    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    return frame.with_columns(
        pl.Series(name, [as_text(value) for value in frame[name].to_list()], dtype=pl.String) for name in nested
    )
