-- question: which edges do the graphs of each value share?
-- grain:    consensus circuit x edge
-- cost:     one sort of the edges of each value
INSERT INTO staged_circuit_edges BY NAME
SELECT by_column || '=' || by_value AS circuit_id,
    edge_frequency.* EXCLUDE (by_column, by_value, n_graphs)
FROM edge_frequency
WHERE support >= $min_support AND list_contains($by, by_column)
QUALIFY row_number() OVER (
    PARTITION BY by_column, by_value
    ORDER BY edge_score_sum DESC, source_kind, source_layer, source_feature, target_kind, target_layer, target_feature
) <= $max_edges
