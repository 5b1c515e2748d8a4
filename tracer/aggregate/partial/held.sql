-- question: which features does each graph hold, and how strongly?
-- grain:    graph x feature
-- cost:     one grouping of the batch's nodes
CREATE TEMP TABLE held AS
SELECT graph_idx, layer, feature, count(*) AS n_nodes,
    fsum(influence) AS influence,
    fsum(activation) AS activation_sum,
    min(activation) AS activation_min,
    max(activation) AS activation_max
FROM nodes WHERE kind = 'feature' GROUP BY graph_idx, layer, feature
