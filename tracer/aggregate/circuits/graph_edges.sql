-- question: which recurring edges does each sampled graph keep, and how strongly?
-- grain:    sampled graph x kept edge that is one of `edge_stats`; sums over positions are taken where it is read, in
--           an order of their own
-- cost:     two hash joins of the sample's edges with its nodes
CREATE OR REPLACE TEMP TABLE circuit_graph_edges AS
WITH sampled AS MATERIALIZED (
    SELECT graph_id, row_number() OVER () AS graph_idx FROM (SELECT DISTINCT graph_id FROM circuit_sample)
),
ends AS (
    SELECT node_place(graph_idx, node_idx) AS place, kind,
        CASE WHEN kind = 'feature' THEN layer ELSE -1 END AS layer,
        CASE WHEN kind = 'feature' THEN feature ELSE token_id END AS idx
    FROM nodes JOIN sampled USING (graph_id)
    WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
),
placed AS (
    SELECT graph_id, target_idx, source_idx, weight, edge_score,
        node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
    FROM edges JOIN sampled USING (graph_id)
),
in_graph AS MATERIALIZED (
    SELECT graph_id, source.kind AS source_kind, source.layer AS source_layer, source.idx AS source_feature,
        target.kind AS target_kind, target.layer AS target_layer, target.idx AS target_feature,
        target_idx, source_idx, weight, edge_score
    FROM placed
    JOIN ends AS source ON source.place = placed.source
    JOIN ends AS target ON target.place = placed.target
)
SELECT graph_id, edge_idx, target_idx, source_idx, weight, edge_score
FROM in_graph
JOIN circuit_edge_numbers
    USING (source_kind, source_layer, source_feature, target_kind, target_layer, target_feature)
ORDER BY graph_id, edge_idx, target_idx, source_idx
