-- question: which edges between features does each graph keep that motifs are counted on?
-- grain:    sampled graph x edge between two features, held by the state; graphs that have left the sample still there
-- cost:     two hash joins of the edges with the feature nodes of graphs that are new in the sample
CREATE OR REPLACE TEMP TABLE motif_sample AS
SELECT graph_id, graph_idx FROM state.graph_numbers ORDER BY sha256($seed || ':' || graph_id), graph_id LIMIT $max_graphs;

CREATE TABLE IF NOT EXISTS state.motif_graphs (graph_idx INTEGER);

CREATE TABLE IF NOT EXISTS state.motif_edges (graph_idx INTEGER, source BIGINT, target BIGINT);

CREATE OR REPLACE TEMP TABLE motif_entered AS
SELECT graph_id, graph_idx FROM motif_sample ANTI JOIN state.motif_graphs USING (graph_idx);

CREATE OR REPLACE TEMP TABLE motif_left AS
SELECT graph_idx FROM state.motif_graphs ANTI JOIN motif_sample USING (graph_idx);

INSERT INTO state.motif_edges
WITH ends AS (
    SELECT node_place(graph_idx, node_idx) AS place, end_code(kind, layer, feature) AS code
    FROM nodes JOIN motif_entered USING (graph_id) WHERE kind = 'feature'
),
placed AS (
    SELECT graph_idx, node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
    FROM edges JOIN motif_entered USING (graph_id)
)
SELECT DISTINCT placed.graph_idx, source.code AS source, target.code AS target
FROM placed
JOIN ends AS source ON source.place = placed.source
JOIN ends AS target ON target.place = placed.target
WHERE source.code <> target.code;
