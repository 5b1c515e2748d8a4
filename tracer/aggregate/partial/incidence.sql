-- question: which feature is at which position of which graph?
-- grain:    graph x kept feature node
-- cost:     one sort of the batch's feature nodes
SELECT graph_idx, layer::SMALLINT AS layer, feature::INTEGER AS feature, pos::INTEGER AS pos, influence
FROM nodes
WHERE kind = 'feature'
ORDER BY graph_idx, layer, feature, pos
