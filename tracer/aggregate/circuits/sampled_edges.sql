-- question: which edges does each sampled graph keep?
-- grain:    sampled graph x kept edge, held by the state; tokens are sources, logits targets
-- cost:     two hash joins of the edges with the nodes of graphs that are new in the sample
DELETE FROM state.sampled_edges WHERE graph_idx NOT IN (SELECT graph_idx FROM circuit_sampled);

INSERT INTO state.sampled_edges
WITH ends AS (
    SELECT node_place(graph_idx, node_idx) AS place, kind,
        end_code(kind, layer, CASE WHEN kind = 'feature' THEN feature ELSE token_id END) AS code
    FROM nodes JOIN circuit_entered USING (graph_id)
    WHERE nodes.rowid >= $first_node
        AND (kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL))
),
placed AS (
    SELECT graph_idx, target_idx, source_idx, weight, edge_score,
        node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
    FROM edges JOIN circuit_entered USING (graph_id) WHERE edges.rowid >= $first_edge
)
SELECT graph_idx, source.code AS source, target.code AS target, target_idx, source_idx, weight, edge_score
FROM placed
JOIN ends AS source ON source.place = placed.source
JOIN ends AS target ON target.place = placed.target
WHERE source.kind IN ('feature', 'token') AND target.kind IN ('feature', 'logit');

CREATE OR REPLACE TABLE state.sampled_graphs AS SELECT graph_idx FROM circuit_sampled;
