"""How many graphs of a run hold what somebody named a group: of all graphs, or of those of each value of a column."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from tracer.errors import DataError
from tracer.graph.formats.groups import Group
from tracer.tables.conditions import known_column
from tracer.tables.database import connect, query
from tracer.tables.quoting import quoted

_SUPPORT = """
    WITH members AS (
        SELECT unnest({group_idx}::BIGINT[]) AS group_idx, unnest({layer}::BIGINT[]) AS layer,
            unnest({feature}::BIGINT[]) AS feature
    ), sizes AS (
        SELECT group_idx, count(layer) AS n_features
        FROM (SELECT unnest(range({n_groups})) AS group_idx) LEFT JOIN members USING (group_idx) GROUP BY group_idx
    ), graph_values AS (
        SELECT graph_id, {value} AS by_value FROM graphs JOIN prompts USING (prompt_id)
    ), by_values AS (
        SELECT by_value, count(*) AS n_graphs FROM graph_values GROUP BY by_value
        {no_graphs}
    ), held AS (
        SELECT group_idx, graph_id, count(DISTINCT (layer, feature)) AS n_held
        FROM members JOIN nodes USING (layer, feature) WHERE kind = 'feature' GROUP BY group_idx, graph_id
    ), found AS (
        SELECT group_idx, by_value, count(*) AS n_any, count(*) FILTER (n_held = n_features) AS n_all
        FROM held JOIN sizes USING (group_idx) JOIN graph_values USING (graph_id) GROUP BY group_idx, by_value
    )
    SELECT group_idx, by_value, n_features, coalesce(n_any, 0) AS n_graphs_any, coalesce(n_all, 0) AS n_graphs_all,
        n_graphs
    FROM sizes CROSS JOIN by_values LEFT JOIN found USING (group_idx, by_value) ORDER BY group_idx, by_value
"""
_WITHOUT_GRAPHS = "UNION ALL SELECT '', 0 WHERE NOT EXISTS (SELECT 1 FROM graph_values)"
"""A run without graphs still has a row for every group."""


def group_support(database: Path, groups: Sequence[Group], *, by: str | None = None) -> pl.DataFrame:
    """In how many graphs of a run groups are found, whatever the positions of their features.

    A row for every group, in their order: `name`, `n_features`, `n_graphs_any` (graphs that hold at least one of its
    features), `n_graphs_all` (graphs that hold all of them) and `n_graphs` of the run. With `by`, a row for every group
    and value of that column, `by_value` being its text (prompts without a value are left out), and the counts are of
    that value's graphs.

    Args:
        database: the results.duckdb of a finished run.
        groups: the groups; one without features is found nowhere.
        by: column of `prompts` by whose values graphs are counted; none for all graphs together.

    Raises:
        ArtifactError: `database` is no results file.
        DataError: `prompts` has no column `by`, or a group a feature of a layer that the model does not have.
    """
    _check_layers(groups, n_layers=query(database, "SELECT n_layers FROM runs").item())
    members = [(idx, *feature) for idx, group in enumerate(groups) for feature in group.features()]
    columns = {name: [member[at] for member in members] for at, name in enumerate(("group_idx", "layer", "feature"))}
    value, no_graphs = "''", _WITHOUT_GRAPHS
    if by is not None:
        with connect(database) as connection:
            value, no_graphs = f"CAST({quoted(known_column(connection, by))} AS VARCHAR)", "HAVING by_value IS NOT NULL"
    found = query(database, _SUPPORT.format(**columns, n_groups=len(groups), value=value, no_graphs=no_graphs))
    names = pl.Series("name", [groups[idx].name for idx in found["group_idx"]], dtype=pl.String)
    found = found.drop("group_idx" if by else ["group_idx", "by_value"])
    return found.insert_column(0, names)


def _check_layers(groups: Sequence[Group], n_layers: int) -> None:
    for group in groups:
        above = sorted({layer for layer, _ in group.features() if layer >= n_layers})
        if above:
            found, expected = f"features of layer {', '.join(map(str, above))}", f"layers 0 to {n_layers - 1}"
            to_do = "Give groups of the model that the run is of."
            raise DataError(f"group {group.name!r}", found=found, expected=expected, to_do=to_do)
