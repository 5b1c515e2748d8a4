-- question: on which graphs are motifs counted, which of them are new in the sample, and which have left it?
-- grain:    graph
-- cost:     one hash of each graph's name
CREATE OR REPLACE TEMP TABLE motif_sample AS
SELECT graph_id, graph_idx FROM state.graph_numbers ORDER BY sha256($seed || ':' || graph_id), graph_id LIMIT $max_graphs;

CREATE TABLE IF NOT EXISTS state.motif_graphs (graph_idx INTEGER);

CREATE TABLE IF NOT EXISTS state.motif_edges (graph_idx INTEGER, source BIGINT, target BIGINT);

CREATE OR REPLACE TEMP TABLE motif_entered AS
SELECT graph_id, graph_idx FROM motif_sample ANTI JOIN state.motif_graphs USING (graph_idx);

CREATE OR REPLACE TEMP TABLE motif_left AS
SELECT graph_idx FROM state.motif_graphs ANTI JOIN motif_sample USING (graph_idx);
