-- question: which edges recur, how strong and of which sign?
-- grain:    source feature or token -> target feature or logit, over graphs
-- cost:     two hash joins of edges with nodes, then one grouping of (graph, pair); spills to disk when large;
--           compensated sums (fsum): the order of rows changes the last bit at most, at a tenth of the cost of sorting
INSERT INTO edge_stats BY NAME
WITH ends AS (
    SELECT graph_id, node_idx, kind,
        CASE WHEN kind = 'feature' THEN layer ELSE -1 END AS layer,
        CASE WHEN kind = 'feature' THEN feature ELSE token_id END AS idx,
        CASE WHEN kind <> 'feature' THEN token END AS token
    FROM nodes
    WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
),
in_graph AS (
    SELECT graph_id, source.kind AS source_kind, source.layer AS source_layer, source.idx AS source_feature,
        target.kind AS target_kind, target.layer AS target_layer, target.idx AS target_feature,
        min(source.token) AS source_token, min(target.token) AS target_token,
        fsum(weight) AS weight,
        fsum(edge_score) AS edge_score
    FROM edges
    JOIN ends AS source USING (graph_id)
    JOIN ends AS target USING (graph_id)
    WHERE source.node_idx = edges.source_idx AND target.node_idx = edges.target_idx
        AND source.kind IN ('feature', 'token') AND target.kind IN ('feature', 'logit')
    GROUP BY ALL
)
SELECT source_kind, source_layer, source_feature, target_kind, target_layer, target_feature,
    min(source_token) AS source_token,
    min(target_token) AS target_token,
    count(*) AS support,
    fsum(weight) / count(*) AS weight_mean,
    stddev_samp(weight) AS weight_sd,
    greatest(count(*) FILTER (weight > 0), count(*) FILTER (weight < 0), count(*) FILTER (weight = 0)) / count(*) AS sign_agreement,
    fsum(edge_score) AS edge_score_sum
FROM in_graph
GROUP BY source_kind, source_layer, source_feature, target_kind, target_layer, target_feature
HAVING count(*) >= $min_support
ORDER BY source_kind, source_layer, source_feature, target_kind, target_layer, target_feature
