-- question: which components does each graph hold, and how much do they carry?
-- grain:    graph x component with a kept feature or error node, or a listed part of an edge
-- cost:     groupings of the batch's held features, error nodes and carried edges
CREATE TEMP TABLE graph_components AS
WITH features AS (
    SELECT graph_id, layer, sum(n_nodes) AS n_nodes, fsum(influence) AS influence FROM held GROUP BY graph_id, layer
),
errors AS (
    SELECT graph_id, layer, fsum(influence) AS error_influence
    FROM part_nodes WHERE kind = 'error' GROUP BY graph_id, layer
),
heads AS (SELECT graph_id, layer, head, fsum(carried) AS influence FROM carried GROUP BY graph_id, layer, head),
totals AS (SELECT graph_id, fsum(edge_score) AS total FROM part_edges GROUP BY graph_id)
SELECT graph_id, 'mlp' AS kind, layer, -1 AS head, n_nodes IS NOT NULL AS is_held,
    coalesce(n_nodes, 0)::BIGINT AS n_nodes,
    coalesce(influence, 0.0) AS influence,
    coalesce(error_influence, 0.0) AS error_influence
FROM features FULL JOIN errors USING (graph_id, layer)
UNION ALL
SELECT graph_id, 'head', layer, head, influence >= $head_share * total, 0, influence, 0.0
FROM heads JOIN totals USING (graph_id)
