-- question: which features does a head read from, that is, from which does it carry the largest part of an edge?
-- grain:    value of a metadata column x head x feature
-- cost:     one join of the batch's carried edges with their sources
WITH in_graph AS (
    SELECT carried.graph_idx, carried.layer, carried.head, ends.layer AS feature_layer, ends.idx AS feature,
        fsum(carried.carried) AS carried
    FROM carried JOIN ends ON ends.place = carried.source
    WHERE ends.kind = 'feature' AND is_largest
    GROUP BY ALL
)
SELECT by_column, by_value, layer, head, feature_layer, feature,
    count(*) AS support,
    fsum(carried) AS influence_sum
FROM in_graph JOIN graph_values USING (graph_idx)
GROUP BY ALL
