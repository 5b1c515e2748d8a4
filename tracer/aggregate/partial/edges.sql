-- question: which edges recur, by metadata, how strong and of which sign?
-- grain:    value of a metadata column x edge; a graph counts once, its weight being the sum over positions
-- cost:     two hash joins of the batch's edges with its nodes, then one grouping of (graph, edge)
WITH in_graph AS (
    SELECT edges.graph_idx, source.kind AS source_kind, source.layer AS source_layer, source.idx AS source_feature,
        target.kind AS target_kind, target.layer AS target_layer, target.idx AS target_feature,
        min(source.token) AS source_token, min(target.token) AS target_token,
        fsum(weight) AS weight,
        fsum(edge_score) AS edge_score
    FROM edges
    JOIN ends AS source ON source.place = edges.source
    JOIN ends AS target ON target.place = edges.target
    WHERE source.kind IN ('feature', 'token') AND target.kind IN ('feature', 'logit')
    GROUP BY ALL
)
SELECT by_column, by_value,
    source_kind, source_layer, source_feature, target_kind, target_layer, target_feature,
    min(source_token) AS source_token,
    min(target_token) AS target_token,
    count(*) AS support,
    fsum(weight) AS weight_sum,
    fsum(weight * weight) AS weight_square_sum,
    count(*) FILTER (weight > 0) AS n_positive,
    count(*) FILTER (weight < 0) AS n_negative,
    fsum(edge_score) AS edge_score_sum
FROM in_graph JOIN graph_values USING (graph_idx)
GROUP BY ALL
