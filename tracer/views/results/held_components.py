"""Which graph holds which component, counted anew for chosen graphs: frequencies against counterfactual partners."""

import polars as pl

from tracer.aggregate.comparing.choosing import choose
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
    WITH sides AS (
        SELECT unnest($first::VARCHAR[]) AS graph_id, true AS is_first
        UNION ALL
        SELECT unnest($second::VARCHAR[]), false
    ),
    chosen AS (SELECT graph_id FROM sides),
    {held},
    sizes AS (SELECT count(*) FILTER (is_first) AS n_first, count(*) FILTER (NOT is_first) AS n_second FROM sides),
    counted AS (
        SELECT component, layer, head, count(*) FILTER (is_first) AS support_first,
            count(*) FILTER (NOT is_first) AS support_second
        FROM held JOIN sides USING (graph_id) GROUP BY component, layer, head
    )
    SELECT components.component, components.layer, components.head,
        coalesce(support_first, 0) / n_first - coalesce(support_second, 0) / n_second AS difference
    FROM components LEFT JOIN counted USING (component) CROSS JOIN sizes
"""


def counterfactual_difference(connection: Connection, condition: str, head_share: float) -> pl.DataFrame:
    """For each component its frequency in graphs that have partners, less that in these partners.

    Partners are graphs of the other prompts of the same `pair_id`.

    Args:
        connection: to a results file.
        condition: SQL condition on `prompts`, for the graphs that are compared with their partners.
        head_share: least share of a graph's edge scores that a head carries to be in the graph.

    Raises:
        DataError: as `tracer.aggregate.comparing.choosing.choose`: no graph, no partner, or both prompts of a pair.
    """
    chosen = choose((connection, connection), condition, None, paired=False, stratum=None)
    first = chosen.first.join(chosen.second, on="pair_id", how="semi")
    sides = {"first": first["graph_id"].to_list(), "second": chosen.second["graph_id"].to_list()}
    return ask(connection, DIFFERENCE.format(held=HELD), {**sides, "head_share": head_share})
