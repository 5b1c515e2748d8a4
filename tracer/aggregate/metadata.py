"""The corpus's own columns among the columns of `prompts`: their names there, and which of them makes strata."""

from collections.abc import Mapping

from tracer.errors import ConfigError
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


def stratum_column(stratify_by: str | None, names: Mapping[str, str]) -> str | None:
    """The column of `prompts` that `stratify_by` means: one of the corpus's own, else a declared one such as `task`.

    Raises:
        ConfigError: there is no such column.
    """
    declared = TABLES["prompts"].column_names()
    if stratify_by is None or stratify_by in names:
        return names.get(stratify_by) if stratify_by else None
    if stratify_by in declared:
        return stratify_by
    known = ", ".join(["task", "split", *names])
    to_do = "Name a column that the corpus has."
    raise ConfigError("aggregate.stratify_by", found=repr(stratify_by), expected=f"one of: {known}", to_do=to_do)
