"""What aggregation remembers between two builds, so that new shards can be added: counts that batches add up to.

It lies beside the results as a database of its own. A whole build adds up all batches of shards; a build that goes on
from an earlier one adds the new batches to what is remembered. Both are the same sum, so their tables are equal. What
is known of frequent edges, pairs, motifs and sampled graphs lies there too, in tables of the modules that count them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracer.errors import ArtifactError
from tracer.tables.database import Connection, rows_of
from tracer.tables.quoting import literal, quoted

SCHEMA = "state"
"""Under this name the state is attached while results are built."""
STATE_VERSION = 5
"""Of the tables of the state; one of another version is not gone on from."""
WHOLE_RUN = ""
"""`by_column` and `by_value` of what is counted over all graphs."""
REMEMBERED = 0.8
"""What is in at least this share of the least support that is asked for is remembered with its count."""
MAX_NEW_SHARE = 0.125
"""New graphs, or rows of counts of edges, for each that was there when everything was counted, beyond which everything
is counted anew."""

_BY = ("by_column", "by_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Counts of one kind: by which columns, and how each further column is merged (sum, fsum, min or max)."""

    name: str
    key: tuple[str, ...]
    measures: Mapping[str, str]

    def merging(self, source: str) -> str:
        """The query that merges the rows of `source`, a relation or a list of files, by key."""
        keys = ", ".join(map(quoted, self.key))
        merged = ", ".join(
            f"{how}({quoted(column)}){'::BIGINT' if how == 'sum' else ''} AS {quoted(column)}"
            for column, how in self.measures.items()
        )
        return f"SELECT {keys}, {merged} FROM {source} GROUP BY {keys}"


COUNTED = (
    Counted(
        name="features",
        key=(*_BY, "layer", "feature"),
        measures={
            "support": "sum", "n_nodes": "sum", "influence_sum": "fsum", "influence_square_sum": "fsum",
            "activation_sum": "fsum", "activation_min": "min", "activation_max": "max",
        },
    ),
    Counted(name="value_sets", key=("value_set", *_BY), measures={"n_graphs": "sum"}),
    Counted(name="tokens", key=("token_id",), measures={"token": "min"}),
    Counted(
        name="vocabulary",
        key=(*_BY, "kind", "token_id"),
        measures={"support": "sum", "influence_sum": "fsum"},
    ),
    Counted(
        name="components",
        key=(*_BY, "kind", "layer", "head"),
        measures={
            "support": "sum", "n_nodes": "sum", "influence_sum": "fsum", "influence_square_sum": "fsum",
            "error_influence_sum": "fsum",
        },
    ),
    Counted(
        name="head_features",
        key=(*_BY, "layer", "head", "feature_layer", "feature"),
        measures={"support": "sum", "influence_sum": "fsum"},
    ),
    Counted(name="errors", key=(*_BY, "layer", "pos"), measures={"support": "sum", "influence_sum": "fsum"}),
    Counted(name="lengths", key=(*_BY, "n_tokens"), measures={"n_graphs": "sum"}),
    Counted(
        name="firings",
        key=("layer", "feature"),
        measures={
            "n_firings": "sum", "n_prompts": "sum", "activation_sum": "fsum", "activation_square_sum": "fsum",
            "activation_max": "max",
        },
    ),
)  # fmt: skip
LISTED = ("graph_numbers", "incidence", "component_incidence", "edges")
"""What is only put one after another: the numbers of graphs, which graph holds what, and the counts of edges. Most
edges are in one graph alone, so that adding their counts up by edge would take longer than all else and save nothing;
`frequencies/recurring_edges.py` finds those that recur. Rows are only ever put behind others, so that their places
(`rowid`) tell new ones.
"""


def add_batches(connection: Connection, files: Mapping[str, Sequence[str]], *, is_new: bool) -> None:
    """Add what was counted of some batches.

    Args:
        connection: the results being built, the state attached.
        files: Parquet files by the names of `COUNTED` and `LISTED`; each name has at least one.
        is_new: whether the state is empty as yet.
    """
    for name in LISTED:
        source = _parquet(files[name])
        sql = f"CREATE TABLE {SCHEMA}.{name} AS" if is_new else f"INSERT INTO {SCHEMA}.{name}"
        connection.execute(f"{sql} SELECT * FROM {source}")
    for counted in COUNTED:
        table, source = f"{SCHEMA}.{counted.name}", _parquet(files[counted.name])
        if is_new:
            connection.execute(f"CREATE TABLE {table} AS {counted.merging(source)}")
            continue
        both = f"(SELECT * FROM {table} UNION ALL BY NAME SELECT * FROM {source})"
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS {counted.merging(both)}")


def remember_parts(connection: Connection, settings: str, names: Iterable[str]) -> None:
    """Note under which settings which parts are added up by now.

    Args:
        connection: the results being built, the state attached.
        settings: whatever makes counts of other settings something else.
        names: the parts.
    """
    connection.execute(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.parts (settings VARCHAR, part VARCHAR)")
    connection.execute(f"INSERT INTO {SCHEMA}.parts SELECT ?, unnest(?::VARCHAR[])", [settings, sorted(names)])


def remembered_parts(path: Path, settings: str) -> frozenset[str]:
    """The parts that a state adds up; none where there is no state, or one of other settings.

    Args:
        path: the file of the state, of an earlier build.
        settings: as for `remember_parts`.
    """
    try:
        rows = rows_of(path, "SELECT settings, part FROM parts")
    except ArtifactError:  # without a state, everything is counted anew
        return frozenset()
    if {of for of, _ in rows} != {settings}:
        return frozenset()
    return frozenset(part for _, part in rows)


def _parquet(files: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(map(literal, files))}])"
