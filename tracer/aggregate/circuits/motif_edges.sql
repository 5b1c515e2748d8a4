-- question: which edges between features does each graph keep that motifs are counted on?
-- grain:    sampled graph x edge between two features, held by the state; graphs that have left the sample still there
-- cost:     two hash joins of the edges with the feature nodes of graphs that are new in the sample
INSERT INTO state.motif_edges
WITH ends AS (
    SELECT node_place(graph_idx, node_idx) AS place, end_code(kind, layer, feature) AS code
    FROM nodes JOIN motif_entered USING (graph_id)
    WHERE nodes.rowid >= $first_node AND kind = 'feature'
),
placed AS (
    SELECT graph_idx, node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
    FROM edges JOIN motif_entered USING (graph_id) WHERE edges.rowid >= $first_edge
)
SELECT DISTINCT placed.graph_idx, source.code AS source, target.code AS target
FROM placed
JOIN ends AS source ON source.place = placed.source
JOIN ends AS target ON target.place = placed.target
WHERE source.code <> target.code;
