-- question: which components does each graph hold, and how much do they carry?
-- grain:    graph x component with a kept feature or error node, or a listed part of an edge
-- cost:     groupings of the batch's held features, error nodes and carried edges
CREATE TEMP TABLE graph_components AS
WITH features AS (
    SELECT graph_idx, layer, sum(n_nodes) AS n_nodes, fsum(influence) AS influence FROM held GROUP BY graph_idx, layer
),
errors AS (
    SELECT graph_idx, layer, fsum(influence) AS error_influence
    FROM nodes WHERE kind = 'error' GROUP BY graph_idx, layer
),
heads AS (SELECT graph_idx, layer, head, fsum(carried) AS influence FROM carried GROUP BY graph_idx, layer, head),
totals AS (SELECT graph_idx, fsum(edge_score) AS total FROM edges GROUP BY graph_idx)
SELECT graph_idx, 'mlp' AS kind, layer, -1 AS head, n_nodes IS NOT NULL AS is_held,
    coalesce(n_nodes, 0)::BIGINT AS n_nodes,
    coalesce(influence, 0.0) AS influence,
    coalesce(error_influence, 0.0) AS error_influence
FROM features FULL JOIN errors USING (graph_idx, layer)
UNION ALL
SELECT graph_idx, 'head', layer, head, influence >= $head_share * total, 0, influence, 0.0
FROM heads JOIN totals USING (graph_idx)
