-- question: which recurring edges does each sampled graph keep, and how strongly?
-- grain:    sampled graph x kept edge that is one of `edge_stats`; sums over positions are taken where it is read, in
--           an order of their own
-- cost:     two hash joins of the sample's edges with its nodes
CREATE OR REPLACE TEMP TABLE circuit_graph_edges AS
WITH sampled AS (SELECT DISTINCT graph_id FROM circuit_sample),
ends AS (
    SELECT graph_id, node_idx, kind,
        CASE WHEN kind = 'feature' THEN layer ELSE -1 END AS layer,
        CASE WHEN kind = 'feature' THEN feature ELSE token_id END AS idx
    FROM nodes SEMI JOIN sampled USING (graph_id)
    WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
),
in_graph AS (
    SELECT graph_id, source.kind AS source_kind, source.layer AS source_layer, source.idx AS source_feature,
        target.kind AS target_kind, target.layer AS target_layer, target.idx AS target_feature,
        target_idx, source_idx, weight, edge_score
    FROM edges
    JOIN ends AS source USING (graph_id)
    JOIN ends AS target USING (graph_id)
    WHERE source.node_idx = edges.source_idx AND target.node_idx = edges.target_idx
)
SELECT graph_id, edge_idx, target_idx, source_idx, weight, edge_score
FROM in_graph
JOIN circuit_edge_numbers
    USING (source_kind, source_layer, source_feature, target_kind, target_layer, target_feature)
ORDER BY graph_id, edge_idx, target_idx, source_idx
