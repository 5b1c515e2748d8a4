-- question: which graphs are sampled, and which of them are new in the sample?
-- grain:    graph
-- cost:     one join of the samples with the graphs' numbers
CREATE TABLE IF NOT EXISTS state.sampled_graphs (graph_idx INTEGER);

CREATE TABLE IF NOT EXISTS state.sampled_edges (
    graph_idx INTEGER, source BIGINT, target BIGINT, target_idx INTEGER, source_idx INTEGER, weight DOUBLE,
    edge_score DOUBLE
);

CREATE OR REPLACE TEMP TABLE circuit_sampled AS
SELECT graph_id, graph_idx FROM state.graph_numbers SEMI JOIN circuit_sample USING (graph_id);

CREATE OR REPLACE TEMP TABLE circuit_entered AS
SELECT graph_id, graph_idx FROM circuit_sampled ANTI JOIN state.sampled_graphs USING (graph_idx);
