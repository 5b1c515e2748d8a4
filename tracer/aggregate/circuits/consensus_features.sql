-- question: which features do the graphs of each value share?
-- grain:    consensus circuit x feature: at an end of one of its edges, or with influence in enough graphs
-- cost:     one sort of the features of each value
INSERT INTO staged_circuit_members BY NAME
WITH ends AS (
    SELECT circuit_id, source_layer AS layer, source_feature AS feature
    FROM staged_circuit_edges WHERE source_kind = 'feature'
    UNION
    SELECT circuit_id, target_layer, target_feature FROM staged_circuit_edges WHERE target_kind = 'feature'
),
held AS (
    SELECT by_column || '=' || by_value AS circuit_id, layer, feature, support, frequency, influence_sum, influence_mean
    FROM feature_frequency WHERE list_contains($by, by_column)
),
chosen AS (
    SELECT held.*, ends.layer IS NOT NULL AS is_end
    FROM held LEFT JOIN ends USING (circuit_id, layer, feature)
    WHERE is_end OR (support >= $min_support AND influence_sum > 0)
    QUALIFY is_end OR row_number() OVER (
        PARTITION BY circuit_id, is_end ORDER BY influence_sum DESC, layer, feature
    ) <= $max_edges
)
SELECT circuit_id, 'feature' AS kind, layer, feature, support, frequency, influence_mean, frequency AS weight
FROM chosen
