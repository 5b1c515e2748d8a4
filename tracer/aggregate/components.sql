-- question: how much does each layer's MLP take part?
-- grain:    MLP layer
-- cost:     one pass over the nodes
INSERT INTO components BY NAME
WITH graph_count AS (SELECT nullif(count(*), 0) AS n FROM graphs),
kept AS (
    SELECT layer,
        count(DISTINCT graph_id) FILTER (kind = 'feature') AS n_graphs,
        count(DISTINCT feature) FILTER (kind = 'feature') AS n_features,
        count(*) FILTER (kind = 'feature') AS n_nodes,
        fsum(influence) FILTER (kind = 'feature') AS influence,
        fsum(influence) FILTER (kind = 'error') AS error_influence
    FROM nodes WHERE kind IN ('feature', 'error') GROUP BY layer
)
SELECT 'mlp' AS kind, layer,
    coalesce(n_graphs, 0) AS n_graphs,
    coalesce(n_graphs, 0) / graph_count.n AS frequency,
    coalesce(n_features, 0) AS n_features,
    coalesce(n_nodes, 0) AS n_nodes,
    coalesce(influence, 0) / graph_count.n AS influence_mean,
    coalesce(error_influence, 0) / graph_count.n AS error_influence_mean
FROM (SELECT unnest(range($n_layers)) AS layer)
LEFT JOIN kept USING (layer)
CROSS JOIN graph_count
ORDER BY layer
