"""The table `prompts`: the shards' rows with every metadata column of the corpus as a column of its own."""

from tracer.aggregate.merge import refuse_doubles
from tracer.aggregate.metadata import MetadataColumns
from tracer.tables.building import create_table
from tracer.tables.database import Connection
from tracer.tables.quoting import quoted
from tracer.tables.schema import TABLES


def create_prompts(connection: Connection, columns: MetadataColumns) -> None:
    """Make `prompts` with the corpus's own columns, and no rows."""
    create_table(connection, TABLES["prompts"], extra_columns=dict(columns.types))


def append_prompts(connection: Connection, columns: MetadataColumns) -> None:
    """Add the rows of the parts, sorted by prompt id.

    Raises:
        ArtifactError: two shards hold the same prompt.
    """
    table = TABLES["prompts"]
    names = [*map(quoted, table.column_names()), *(columns.value(name) for name in columns.types)]
    connection.execute(f"INSERT INTO prompts SELECT {', '.join(names)} FROM part_prompts ORDER BY prompt_id")
    refuse_doubles(connection, table)
