-- question: in how many graphs is a feature, by metadata, how influential and how active?
-- grain:    value of a metadata column x feature
-- cost:     one join of the held features with the values of their graphs, one grouping
SELECT by_column, by_value, layer, feature,
    count(*) AS support,
    sum(n_nodes)::BIGINT AS n_nodes,
    fsum(influence) AS influence_sum,
    fsum(influence * influence) AS influence_square_sum,
    fsum(activation_sum) AS activation_sum,
    min(activation_min) AS activation_min,
    max(activation_max) AS activation_max
FROM held JOIN graph_values USING (graph_idx)
GROUP BY by_column, by_value, layer, feature
