"""How a table is declared: its columns with type, unit and meaning, from which schema, DDL, checks and docs derive."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

ColumnType = Literal["text", "int", "float", "bool", "time", "list[text]", "list[int]", "list[float]"]

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
    "list[text]": pa.list_(pa.string()),
    "list[int]": pa.list_(pa.int64()),
    "list[float]": pa.list_(pa.float64()),
}

DUCKDB_TYPES: dict[ColumnType, str] = {
    "text": "VARCHAR",
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "time": "TIMESTAMPTZ",
    "list[text]": "VARCHAR[]",
    "list[int]": "BIGINT[]",
    "list[float]": "DOUBLE[]",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it holds, in which unit; `volatile` ones may differ between two runs of the same work."""

    name: str
    type: ColumnType
    meaning: str
    unit: str = ""
    volatile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: what a row stands for (`grain`), which columns identify it (`key`), and where it is made.

    `made_by` is `shard` (written by workers, concatenated), `partial` (written by workers, only merged into others) or
    `aggregate` (made over the whole run), or `view` (a view over other tables).
    """

    name: str
    grain: str
    key: tuple[str, ...]
    made_by: Literal["shard", "partial", "aggregate", "view"]
    columns: tuple[Column, ...]

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of this table's parts."""
        return pa.schema([pa.field(column.name, ARROW_TYPES[column.type]) for column in self.columns])

    def ddl(self, name: str | None = None) -> str:
        """The `CREATE TABLE` statement."""
        columns = ", ".join(f'"{column.name}" {DUCKDB_TYPES[column.type]}' for column in self.columns)
        return f'CREATE TABLE "{name or self.name}" ({columns})'

    def column_names(self) -> list[str]:
        """Names in declared order."""
        return [column.name for column in self.columns]

    def stable_columns(self) -> list[str]:
        """Names of the columns in which two runs of the same work must agree."""
        return [column.name for column in self.columns if not column.volatile]
