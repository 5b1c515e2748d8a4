-- question: which feature is at which position of which graph?
-- grain:    graph x kept feature node
-- cost:     one join of the batch's nodes with the numbers of their graphs
SELECT graph_idx, layer::SMALLINT AS layer, feature::INTEGER AS feature, pos::INTEGER AS pos
FROM part_nodes JOIN graph_numbers USING (graph_id)
WHERE kind = 'feature'
ORDER BY graph_idx, layer, feature, pos
