-- question: in how many graphs is each vocabulary id a token, or a logit, by metadata, and with how much influence?
-- grain:    value of a metadata column x kind x vocabulary id
-- cost:     one grouping of the batch's tokens and logits
WITH in_graph AS (
    SELECT graph_idx, kind, token_id, fsum(influence) AS influence
    FROM nodes WHERE kind IN ('token', 'logit') AND token_id IS NOT NULL
    GROUP BY graph_idx, kind, token_id
)
SELECT by_column, by_value, kind, token_id, count(*) AS support, fsum(influence) AS influence_sum
FROM in_graph JOIN graph_values USING (graph_idx)
GROUP BY by_column, by_value, kind, token_id
