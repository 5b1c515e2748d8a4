-- question: which tokens do the features of a layer fire on, right after, and right before?
-- grain:    feature x token
-- cost:     one aggregation of the layer's counts, on disk where memory does not hold it
SELECT layer, feature, token_id, token, n_at, n_before, n_after
FROM (
    SELECT layer, feature, token_id,
        sum(n_at)::BIGINT AS n_at, sum(n_before)::BIGINT AS n_before, sum(n_after)::BIGINT AS n_after
    FROM part_feature_token_sums WHERE layer = $layer GROUP BY ALL
)
JOIN token_counts_texts USING (token_id)
ORDER BY feature, token_id
