-- question: which components does each graph hold?
-- grain:    graph x component
-- cost:     one join of the batch's components with the numbers of their graphs
SELECT graph_idx, kind, layer::SMALLINT AS layer, head::SMALLINT AS head
FROM graph_components JOIN graph_numbers USING (graph_id)
WHERE is_held
ORDER BY graph_idx, kind, layer, head
