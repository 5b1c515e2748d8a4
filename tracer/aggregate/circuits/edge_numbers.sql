-- question: which number does each recurring edge have?
-- grain:    edge of `edge_stats`
-- cost:     one sort of them
CREATE OR REPLACE TEMP TABLE circuit_edge_numbers AS
SELECT row_number() OVER (
        ORDER BY source_kind, source_layer, source_feature, target_kind, target_layer, target_feature
    ) - 1 AS edge_idx,
    source_kind, source_layer, source_feature, target_kind, target_layer, target_feature,
    support, weight_mean,
    end_code(source_kind, source_layer, source_feature) AS source,
    end_code(target_kind, target_layer, target_feature) AS target
FROM edge_stats
ORDER BY edge_idx
