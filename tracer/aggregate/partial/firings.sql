-- question: how often did each feature fire, before any pruning?
-- grain:    feature that fired
-- cost:     one grouping of the shards' counts
SELECT layer, feature,
    sum(n_firings)::BIGINT AS n_firings,
    sum(n_prompts)::BIGINT AS n_prompts,
    fsum(activation_sum) AS activation_sum,
    fsum(activation_square_sum) AS activation_square_sum,
    max(activation_max) AS activation_max
FROM part_feature_counts WHERE n_firings > 0
GROUP BY layer, feature
