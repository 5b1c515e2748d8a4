-- question: what stands at the ends of edges, whatever the position?
-- grain:    graph x node with an identity beyond its graph (errors and directions have none)
-- cost:     one pass over the batch's nodes
CREATE TEMP TABLE ends AS
SELECT graph_id, node_idx, kind,
    CASE WHEN kind = 'feature' THEN layer ELSE -1 END AS layer,
    CASE WHEN kind = 'feature' THEN feature ELSE token_id END AS idx,
    CASE WHEN kind <> 'feature' THEN token END AS token
FROM part_nodes
WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
