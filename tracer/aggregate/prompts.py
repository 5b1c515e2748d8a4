"""The table `prompts`: the shards' rows with every metadata column of the corpus as a column of its own."""

from collections.abc import Mapping
from typing import cast

from tracer.aggregate.merge import refuse_doubles
from tracer.tables.database import Connection, create_table, quoted
from tracer.tables.declare import DUCKDB_TYPES, ColumnType
from tracer.tables.schema import TABLES


def build_prompts(connection: Connection, names: Mapping[str, str], metadata_columns: Mapping[str, str]) -> None:
    """Make `prompts`, sorted by prompt id.

    Args:
        connection: the results file being built.
        names: for each metadata column its name in `prompts`.
        metadata_columns: for each metadata column its type.

    Raises:
        ArtifactError: two shards hold the same prompt.
    """
    table = TABLES["prompts"]
    types = {name: DUCKDB_TYPES[cast(ColumnType, metadata_columns[column])] for column, name in names.items()}
    create_table(connection, table, extra_columns=types)
    pointers = [f"/{column.replace('~', '~0').replace('/', '~1')}" for column in names]
    extra = "".join(f", CAST(json_extract_string(metadata, ?) AS {duckdb_type})" for duckdb_type in types.values())
    columns = ", ".join(quoted(name) for name in table.column_names())
    connection.execute(f"INSERT INTO prompts SELECT {columns}{extra} FROM part_prompts ORDER BY prompt_id", pointers)
    refuse_doubles(connection, table)
