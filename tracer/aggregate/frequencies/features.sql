-- question: how often, how strongly and to what effect does each feature take part?
-- grain:    feature that fired at least once
-- cost:     one join of the run's counts of features, kept and fired
INSERT INTO features BY NAME
WITH graph_count AS (SELECT nullif(sum(n_graphs), 0) AS n FROM state.lengths WHERE by_column = ''),
token_count AS (SELECT nullif(sum(n_at), 0) AS n FROM token_counts),
fired AS (
    SELECT layer, feature, n_firings, n_prompts, activation_max,
        activation_sum / n_firings AS activation_mean,
        activation_square_sum / n_firings AS square_mean
    FROM state.firings
),
spread AS (
    -- a variance below rounding is none
    SELECT *, CASE WHEN square_mean - activation_mean ** 2 > 1e-12 * square_mean
        THEN square_mean - activation_mean ** 2 ELSE 0 END AS variance
    FROM fired
),
kept AS (
    SELECT layer, feature, support, n_nodes, influence_sum,
        influence_sum / support AS influence_mean,
        sample_sd(support, influence_sum, influence_square_sum) AS influence_sd,
        activation_sum / n_nodes AS kept_activation_mean,
        activation_min AS kept_activation_min
    FROM state.features WHERE by_column = ''
)
SELECT layer, feature,
    coalesce(support, 0) AS support,
    coalesce(support, 0) / graph_count.n AS graph_frequency,
    coalesce(support, 0) = graph_count.n AS is_always_on,
    coalesce(n_nodes, 0) AS n_nodes,
    coalesce(influence_sum, 0) AS influence_sum,
    influence_mean, influence_sd, kept_activation_mean, kept_activation_min,
    coalesce(n_prompts, 0) AS n_prompts,
    coalesce(n_firings, 0) AS n_firings,
    coalesce(n_firings, 0) / token_count.n AS activation_frequency,
    coalesce(n_firings, 0) / token_count.n > $dense_frequency AS is_dense,
    activation_mean,
    sqrt(variance) AS activation_sd,
    activation_max,
    decoder_norm, top_tokens, top_token_logits, bottom_tokens, bottom_token_logits
FROM spread
FULL JOIN kept USING (layer, feature)
LEFT JOIN feature_logits USING (layer, feature)
CROSS JOIN graph_count
CROSS JOIN token_count
ORDER BY layer, feature
