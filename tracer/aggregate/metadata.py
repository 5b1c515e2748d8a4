"""The corpus's own columns among the columns of `prompts`: their names there, and which of them makes strata."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from tracer.config import AggregateConfig
from tracer.errors import ConfigError
from tracer.tables.declare import DUCKDB_TYPES, ColumnType
from tracer.tables.quoting import literal, quoted
from tracer.tables.schema import TABLES


def metadata_names(metadata_columns: Mapping[str, str]) -> dict[str, str]:
    """For each metadata column its name in `prompts`: `corpus_` goes in front as long as the name is taken.

    Names that differ only in case are one name in SQL.
    """
    taken = {name.lower() for name in TABLES["prompts"].column_names()}
    names = {}
    for column in sorted(metadata_columns):
        name = column
        while name.lower() in taken:
            name = f"corpus_{name}"
        taken.add(name.lower())
        names[column] = name
    return names


def prompts_column(asked: str, names: Mapping[str, str], setting: str) -> str:
    """The column of `prompts` that a setting means: one of the corpus's own, else a declared one such as `task`.

    Args:
        asked: the name that was given.
        names: as `metadata_names`.
        setting: where it was given.

    Raises:
        ConfigError: there is no such column.
    """
    if asked in names:
        return names[asked]
    if asked in TABLES["prompts"].column_names():
        return asked
    known = ", ".join(["task", "split", *names])
    to_do = "Name a column that the corpus has."
    raise ConfigError(setting, found=repr(asked), expected=f"one of: {known}", to_do=to_do)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataColumns:
    """The columns of `prompts` that a run counts by: `by` for frequencies, `stratum` for the null of co-occurrence.

    `types` gives the corpus's own columns of `prompts` with their DuckDB types, `pointers` their place in `metadata`.
    """

    by: tuple[str, ...]
    stratum: str | None
    types: Mapping[str, str]
    pointers: Mapping[str, str]

    @classmethod
    def of(cls, config: AggregateConfig, metadata_columns: Mapping[str, str]) -> "MetadataColumns":
        """Those that the settings name.

        Args:
            config: the settings.
            metadata_columns: the corpus's own columns with their types (text, int, float or bool).

        Raises:
            ConfigError: a setting names no column of the prompts.
        """
        names = metadata_names(metadata_columns)
        by = [prompts_column(column, names, "aggregate.by") for column in config.by]
        stratify_by = config.stratify_by
        return cls(
            by=tuple(dict.fromkeys(by)),
            stratum=None if stratify_by is None else prompts_column(stratify_by, names, "aggregate.stratify_by"),
            types={name: DUCKDB_TYPES[cast(ColumnType, metadata_columns[column])] for column, name in names.items()},
            pointers={name: f"/{column.replace('~', '~0').replace('/', '~1')}" for column, name in names.items()},
        )

    def value(self, name: str) -> str:
        """SQL for the value of a column of `prompts` in a row of the shards' parts."""
        if name not in self.types:
            return quoted(name)
        return f"CAST(json_extract_string(metadata, {literal(self.pointers[name])}) AS {self.types[name]})"
