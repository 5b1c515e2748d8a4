"""Every table of a run by name: the one list from which files, checks, `tracer tables` and the README derive."""

from tracer.tables.attention_tables import ATTENTION_TABLES
from tracer.tables.declare import Table
from tracer.tables.feature_tables import FEATURE_TABLES
from tracer.tables.graph_tables import GRAPH_TABLES

SCHEMA_VERSION = 1
"""Written into every Parquet part; a part of another version is refused."""

TABLES: dict[str, Table] = {table.name: table for table in (*GRAPH_TABLES, *ATTENTION_TABLES, *FEATURE_TABLES)}

SHARD_TABLES: tuple[Table, ...] = tuple(
    table for table in TABLES.values() if table.made_by in ("shard", "partial") and table.name != "feature_logits"
)
"""The tables of which every committed shard has exactly one part."""
