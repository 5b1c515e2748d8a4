-- question: which components does each graph hold?
-- grain:    graph x component
-- cost:     one sort of the batch's components
SELECT graph_idx, kind, layer::SMALLINT AS layer, head::SMALLINT AS head
FROM graph_components
WHERE is_held
ORDER BY graph_idx, kind, layer, head
