-- question: which recurring edges does each sampled graph keep, and how strongly?
-- grain:    sampled graph x kept edge that is one of `edge_stats`; sums over positions are taken where it is read, in
--           an order of their own
-- cost:     one hash join of the sample's edges with the recurring ones
CREATE OR REPLACE TEMP TABLE circuit_graph_edges AS
SELECT graph_id, edge_idx, target_idx, source_idx, weight, edge_score
FROM state.sampled_edges JOIN circuit_sampled USING (graph_idx) JOIN circuit_edge_numbers USING (source, target)
ORDER BY graph_id, edge_idx, target_idx, source_idx
