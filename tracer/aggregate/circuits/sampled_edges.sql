-- question: which edges does each sampled graph keep?
-- grain:    sampled graph x kept edge, held by the state; tokens are sources, logits targets
-- cost:     two hash joins of the edges with the nodes of graphs that are new in the sample
CREATE TABLE IF NOT EXISTS state.sampled_graphs (graph_idx INTEGER);

CREATE TABLE IF NOT EXISTS state.sampled_edges (
    graph_idx INTEGER, source BIGINT, target BIGINT, target_idx INTEGER, source_idx INTEGER, weight FLOAT,
    edge_score FLOAT
);

CREATE OR REPLACE TEMP TABLE circuit_sampled AS
SELECT graph_id, graph_idx FROM state.graph_numbers SEMI JOIN circuit_sample USING (graph_id);

CREATE OR REPLACE TEMP TABLE circuit_entered AS
SELECT graph_id, graph_idx FROM circuit_sampled ANTI JOIN state.sampled_graphs USING (graph_idx);

DELETE FROM state.sampled_edges WHERE graph_idx NOT IN (SELECT graph_idx FROM circuit_sampled);

INSERT INTO state.sampled_edges
WITH ends AS (
    SELECT node_place(graph_idx, node_idx) AS place,
        end_code(kind, layer, CASE WHEN kind = 'feature' THEN feature ELSE token_id END) AS code
    FROM nodes JOIN circuit_entered USING (graph_id)
    WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
),
placed AS (
    SELECT graph_idx, target_idx, source_idx, weight, edge_score,
        node_place(graph_idx, source_idx) AS source, node_place(graph_idx, target_idx) AS target
    FROM edges JOIN circuit_entered USING (graph_id)
)
SELECT graph_idx, source.code AS source, target.code AS target, target_idx, source_idx, weight, edge_score
FROM placed
JOIN ends AS source ON source.place = placed.source
JOIN ends AS target ON target.place = placed.target;

CREATE OR REPLACE TABLE state.sampled_graphs AS SELECT graph_idx FROM circuit_sampled;
