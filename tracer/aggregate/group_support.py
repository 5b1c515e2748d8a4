"""How many graphs of a run hold what somebody named a group."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tracer.graph.formats.groups import Group
from tracer.tables.database import query

_SUPPORT = """
    WITH members AS (
        SELECT unnest({group_idx}::BIGINT[]) AS group_idx, unnest({layer}::BIGINT[]) AS layer,
            unnest({feature}::BIGINT[]) AS feature
    ), sizes AS (
        SELECT group_idx, count(layer) AS n_features
        FROM (SELECT unnest(range({n_groups})) AS group_idx) LEFT JOIN members USING (group_idx) GROUP BY group_idx
    ), held AS (
        SELECT group_idx, graph_id, count(DISTINCT (layer, feature)) AS n_held
        FROM members JOIN nodes USING (layer, feature) WHERE kind = 'feature' GROUP BY group_idx, graph_id
    )
    SELECT group_idx, n_features, count(graph_id) AS n_graphs_any,
        count(*) FILTER (n_held = n_features) AS n_graphs_all, (SELECT n_graphs FROM runs) AS n_graphs
    FROM sizes LEFT JOIN held USING (group_idx) GROUP BY group_idx, n_features ORDER BY group_idx
"""


def group_support(database: Path, groups: Sequence[Group]) -> pl.DataFrame:
    """In how many graphs of a run groups are found, whatever the positions of their features.

    A row for every group, in their order: `name`, `n_features`, `n_graphs_any` (graphs that hold at least one of its
    features), `n_graphs_all` (graphs that hold all of them) and `n_graphs` of the run.

    Args:
        database: the results.duckdb of a finished run.
        groups: the groups; one without features is found nowhere.

    Raises:
        ArtifactError: `database` is no results file.
    """
    members = [(idx, *feature) for idx, group in enumerate(groups) for feature in group.features()]
    columns = {name: [member[at] for member in members] for at, name in enumerate(("group_idx", "layer", "feature"))}
    found = query(database, _SUPPORT.format(**columns, n_groups=len(groups)))
    names = pl.Series("name", [group.name for group in groups], dtype=pl.String)
    return found.drop("group_idx").insert_column(0, names)
