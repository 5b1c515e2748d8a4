-- question: what stands at the ends of edges, whatever the position?
-- grain:    node with an identity beyond its graph (errors and directions have none), by its one number in the batch
-- cost:     one pass over the batch's nodes
CREATE TEMP TABLE ends AS
SELECT graph_idx, place, kind, layer,
    CASE WHEN kind = 'feature' THEN feature ELSE token_id END AS idx,
    end_code(kind, layer, idx) AS code
FROM nodes
WHERE kind = 'feature' OR (kind IN ('token', 'logit') AND token_id IS NOT NULL)
