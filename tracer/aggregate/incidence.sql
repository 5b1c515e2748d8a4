-- question: which features does each graph hold, whatever the position?
-- grain:    graph x feature
-- cost:     a view: one grouping of the nodes that are asked for
SELECT graph_id, layer, feature, count(*) AS n_nodes, fsum(influence) AS influence, max(activation) AS activation_max
FROM nodes WHERE kind = 'feature' GROUP BY graph_id, layer, feature
