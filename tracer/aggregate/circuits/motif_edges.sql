-- question: which recurring edges between features does each graph keep, and which of their ends does it hold?
-- grain:    sampled graph x edge between features, and graph x feature, graphs numbered in the order of their ids
-- cost:     two hash joins of the edges with the feature nodes
CREATE OR REPLACE TEMP TABLE motif_graphs AS
SELECT graph_id, row_number() OVER (ORDER BY graph_id) - 1 AS graph_idx
FROM (SELECT graph_id FROM graphs ORDER BY sha256($seed || ':' || graph_id), graph_id LIMIT $max_graphs);

CREATE OR REPLACE TEMP TABLE motif_features AS
SELECT graph_idx, node_idx, layer, feature
FROM nodes JOIN motif_graphs USING (graph_id) WHERE kind = 'feature'
ORDER BY graph_idx;

CREATE OR REPLACE TEMP TABLE motif_edges AS
SELECT DISTINCT graph_idx, source.layer AS source_layer, source.feature AS source_feature,
    target.layer AS target_layer, target.feature AS target_feature
FROM edges JOIN motif_graphs USING (graph_id)
JOIN motif_features AS source USING (graph_idx)
JOIN motif_features AS target USING (graph_idx)
WHERE source.node_idx = edges.source_idx AND target.node_idx = edges.target_idx
    AND (source.layer, source.feature) <> (target.layer, target.feature);
