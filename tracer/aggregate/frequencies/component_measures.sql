-- question: how much does each component take part, over the run and by metadata?
-- grain:    value of a metadata column (or the whole run) x component
-- cost:     one pass over the run's counts of components, one grouping of those of features
CREATE OR REPLACE TEMP VIEW component_measures AS
WITH found AS (
    SELECT by_column, by_value, 'mlp' AS kind, layer, -1 AS head, count(*) AS n_features
    FROM state.features GROUP BY by_column, by_value, layer
    UNION ALL
    SELECT by_column, by_value, 'head', layer, head, count(*) FROM state.head_features GROUP BY ALL
),
every AS (
    SELECT by_column, by_value, n_graphs, 'mlp' AS kind, layer, -1 AS head
    FROM graph_counts CROSS JOIN (SELECT unnest(range(getvariable('n_layers'))) AS layer)
    UNION
    SELECT by_column, by_value, n_graphs, 'head', layer, head
    FROM graph_counts CROSS JOIN (SELECT DISTINCT layer, head FROM state.components WHERE kind = 'head')
)
SELECT by_column, by_value, kind, layer, head,
    component_name(kind, layer, head) AS component,
    coalesce(support, 0) AS support,
    n_graphs,
    coalesce(support, 0) / nullif(n_graphs, 0) AS frequency,
    coalesce(n_features, 0) AS n_features,
    CASE WHEN kind = 'mlp' THEN coalesce(n_nodes, 0) END AS n_nodes,
    coalesce(influence_sum, 0) AS influence_sum,
    coalesce(influence_sum, 0) / nullif(n_graphs, 0) AS influence_mean,
    sample_sd(n_graphs, coalesce(influence_sum, 0), coalesce(influence_square_sum, 0)) AS influence_sd,
    CASE WHEN kind = 'mlp' THEN coalesce(error_influence_sum, 0) / nullif(n_graphs, 0) END AS error_influence_mean
FROM every
LEFT JOIN state.components USING (by_column, by_value, kind, layer, head)
LEFT JOIN found USING (by_column, by_value, kind, layer, head)
