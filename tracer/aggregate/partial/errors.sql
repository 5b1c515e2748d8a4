-- question: where do the transcoders fail?
-- grain:    value of a metadata column x layer x position
-- cost:     one grouping of the batch's error nodes
SELECT by_column, by_value, layer, pos, count(*) AS support, fsum(influence) AS influence_sum
FROM nodes JOIN graph_values USING (graph_idx)
WHERE kind = 'error'
GROUP BY by_column, by_value, layer, pos
