-- question: which text has each vocabulary id?
-- grain:    vocabulary id at the end of an edge
-- cost:     one grouping of the batch's tokens and logits
SELECT token_id, min(token) AS token FROM nodes WHERE kind IN ('token', 'logit') AND token_id IS NOT NULL GROUP BY token_id
