"""Which graph holds which component, counted anew for chosen graphs: frequencies against counterfactual partners."""

import polars as pl

from tracer.tables.database import Connection, ask

HELD = """
    mlps AS (
        SELECT DISTINCT graph_id, 'MLP' || layer AS component, layer, -1 AS head
        FROM nodes SEMI JOIN chosen USING (graph_id) WHERE kind = 'feature'
    ),
    shares AS (
        SELECT graph_id, target_idx, source_idx, kind, layer, head,
            abs(weight) / nullif(sum(abs(weight)) OVER (PARTITION BY graph_id, target_idx, source_idx), 0) AS share
        FROM head_loadings SEMI JOIN chosen USING (graph_id)
    ),
    carried AS (
        SELECT graph_id, shares.layer, shares.head, fsum(share * edge_score) AS carried
        FROM shares JOIN edges USING (graph_id, target_idx, source_idx)
        WHERE shares.kind = 'head' AND share IS NOT NULL GROUP BY ALL
    ),
    totals AS (SELECT graph_id, fsum(edge_score) AS total FROM edges SEMI JOIN chosen USING (graph_id) GROUP BY ALL),
    held AS (
        FROM mlps
        UNION ALL
        SELECT graph_id, 'L' || layer || 'H' || head, layer, head FROM carried JOIN totals USING (graph_id)
        WHERE carried >= $head_share * total
    )
"""
"""The graphs of `chosen` and the components that `components` counts in them."""

DIFFERENCE = """
    WITH of_value AS ({graphs}),
    partners AS (
        SELECT DISTINCT of_value.graph_id, other.graph_id AS partner_id
        FROM of_value JOIN prompts AS mine USING (prompt_id)
        JOIN prompts AS theirs ON theirs.pair_id = mine.pair_id AND theirs.prompt_id <> mine.prompt_id
        JOIN graphs AS other ON other.prompt_id = theirs.prompt_id
    ),
    sides AS (
        SELECT DISTINCT graph_id, true AS is_first FROM partners
        UNION ALL
        SELECT DISTINCT partner_id, false FROM partners
    ),
    chosen AS (SELECT DISTINCT graph_id FROM sides),
    {held},
    sizes AS (SELECT count(*) FILTER (is_first) AS n_first, count(*) FILTER (NOT is_first) AS n_second FROM sides),
    counted AS (
        SELECT component, layer, head, count(*) FILTER (is_first) AS support_first,
            count(*) FILTER (NOT is_first) AS support_second
        FROM held JOIN sides USING (graph_id) GROUP BY component, layer, head
    )
    SELECT components.component, components.layer, components.head,
        coalesce(support_first, 0) / nullif(n_first, 0) - coalesce(support_second, 0) / nullif(n_second, 0)
            AS difference
    FROM components LEFT JOIN counted USING (component) CROSS JOIN sizes
"""


def counterfactual_difference(
    connection: Connection, graphs: str, by_value: str | None, head_share: float
) -> pl.DataFrame:
    """For each component its frequency in graphs that have partners, less that in these partners.

    Partners are graphs of the other prompts of the same `pair_id`. Null where no graph has one.

    Args:
        connection: to a results file.
        graphs: SQL for the graphs that are compared with their partners.
        by_value: its parameter.
        head_share: least share of a graph's edge scores that a head carries to be in the graph.
    """
    sql = DIFFERENCE.format(graphs=graphs, held=HELD)
    return ask(connection, sql, {"by_value": by_value, "head_share": head_share})
