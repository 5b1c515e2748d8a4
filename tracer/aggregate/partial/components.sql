-- question: in how many graphs is a component, by metadata, and how much does it carry?
-- grain:    value of a metadata column x component
-- cost:     one join of the batch's graph components with the values of their graphs
SELECT by_column, by_value, kind, layer, head,
    count(*) FILTER (is_held) AS support,
    sum(n_nodes)::BIGINT AS n_nodes,
    fsum(influence) AS influence_sum,
    fsum(influence * influence) AS influence_square_sum,
    fsum(error_influence) AS error_influence_sum
FROM graph_components JOIN graph_values USING (graph_idx)
GROUP BY by_column, by_value, kind, layer, head
