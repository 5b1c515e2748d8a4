"""Every table of a run by name: the one list from which files, checks, `tracer tables` and the README derive."""

from tracer.tables.attention_tables import ATTENTION_TABLES
from tracer.tables.circuit_tables import CIRCUIT_TABLES
from tracer.tables.declare import Table
from tracer.tables.feature_tables import FEATURE_TABLES
from tracer.tables.frequency_tables import FREQUENCY_TABLES
from tracer.tables.graph_tables import GRAPH_TABLES
from tracer.tables.harvest_tables import HARVEST_SHARD_TABLES
from tracer.tables.hypergraph_tables import HYPERGRAPH_TABLES
from tracer.tables.label_tables import LABEL_TABLES

DATABASE_NAME = "results.duckdb"
"""All tables of a run in one file of this name, in its folder."""
SCHEMA_VERSION = 2
"""Written into every Parquet part; a part of another version is refused."""

_TABLES = (
    *GRAPH_TABLES, *ATTENTION_TABLES, *FEATURE_TABLES, *FREQUENCY_TABLES, *HYPERGRAPH_TABLES, *CIRCUIT_TABLES,
    *LABEL_TABLES,
)  # fmt: skip
TABLES: dict[str, Table] = {table.name: table for table in _TABLES}

SHARD_TABLES: tuple[Table, ...] = tuple(
    table for table in TABLES.values() if table.made_by in ("shard", "partial") and table.name != "feature_logits"
)
"""The tables of which every committed shard has exactly one part."""

PART_TABLES: dict[str, Table] = {table.name: table for table in (*SHARD_TABLES, *HARVEST_SHARD_TABLES)}
"""Every table that workers write parts of, of runs and of harvests; tables of one name are the same."""
