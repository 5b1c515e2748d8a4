-- question: how often and how strongly does each feature fire over the corpus?
-- grain:    feature, dead ones too
-- cost:     one pass over the shards' sums
SELECT every.layer, every.feature,
    coalesce(n_firings, 0) AS n_firings,
    coalesce(n_documents, 0) AS n_documents,
    coalesce(activation_sum, 0.0) AS activation_sum,
    coalesce(activation_square_sum, 0.0) AS activation_square_sum,
    coalesce(n_firings, 0) / nullif(totals.n_eligible, 0) AS activation_frequency,
    coalesce(n_documents, 0) / nullif(totals.n_harvested, 0) AS document_frequency,
    activation_sum / n_firings AS activation_mean,
    -- a variance below rounding is none
    CASE WHEN activation_square_sum * n_firings - activation_sum ** 2 > 1e-12 * activation_square_sum * n_firings
        THEN sqrt(activation_square_sum / n_firings - (activation_sum / n_firings) ** 2)
        WHEN n_firings > 0 THEN 0 END AS activation_sd,
    activation_max,
    coalesce(n_firings, 0) > $dense_frequency * totals.n_eligible AS is_dense,
    logits.* EXCLUDE (layer, feature)
FROM every_feature AS every
CROSS JOIN (SELECT sum(n_eligible_tokens) AS n_eligible, count(*) AS n_harvested FROM documents) AS totals
LEFT JOIN (
    SELECT layer, feature,
        sum(n_firings)::BIGINT AS n_firings,
        sum(n_documents)::BIGINT AS n_documents,
        fsum(activation_sum) AS activation_sum,
        fsum(activation_square_sum) AS activation_square_sum,
        max(activation_max) AS activation_max
    FROM part_feature_sums GROUP BY ALL
) AS sums USING (layer, feature)
LEFT JOIN feature_weights AS logits USING (layer, feature)
ORDER BY every.layer, every.feature
