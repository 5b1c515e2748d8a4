-- question: which recurring edges between features does each graph keep, and which of their ends does it hold?
-- grain:    sampled graph x edge between features, and graph x feature, graphs numbered in the order of their ids
-- cost:     two hash joins of the edges with the feature nodes
CREATE OR REPLACE TEMP TABLE motif_graphs AS
SELECT graph_id, row_number() OVER (ORDER BY graph_id) - 1 AS graph_idx
FROM (SELECT graph_id FROM graphs ORDER BY sha256($seed || ':' || graph_id), graph_id LIMIT $max_graphs);

CREATE OR REPLACE TEMP TABLE motif_features AS
SELECT graph_idx, node_place(graph_idx, node_idx) AS place, layer, feature
FROM nodes JOIN motif_graphs USING (graph_id) WHERE kind = 'feature'
ORDER BY graph_idx;

CREATE OR REPLACE TEMP TABLE motif_edges AS
WITH placed AS (
    SELECT graph_idx, node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
    FROM edges JOIN motif_graphs USING (graph_id)
)
SELECT DISTINCT placed.graph_idx, source.layer AS source_layer, source.feature AS source_feature,
    target.layer AS target_layer, target.feature AS target_feature
FROM placed
JOIN motif_features AS source ON source.place = placed.source
JOIN motif_features AS target ON target.place = placed.target
WHERE (source.layer, source.feature) <> (target.layer, target.feature);
