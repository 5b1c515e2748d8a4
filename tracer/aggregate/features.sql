-- question: how often, how strongly and to what effect does each feature take part?
-- grain:    feature that fired at least once
-- cost:     one pass over the nodes and one over the shards' counts; compensated sums, so that the shards' order leaves no trace
INSERT INTO features BY NAME
WITH graph_count AS (SELECT nullif(count(*), 0) AS n FROM graphs),
token_count AS (SELECT nullif(sum(n_at), 0) AS n FROM token_counts),
fired AS (
    SELECT layer, feature, sum(n_firings) AS n_firings, sum(n_prompts) AS n_prompts, max(activation_max) AS activation_max,
        fsum(activation_sum) / sum(n_firings) AS activation_mean,
        fsum(activation_square_sum) / sum(n_firings) AS square_mean
    FROM part_feature_counts WHERE n_firings > 0 GROUP BY layer, feature
),
spread AS (
    -- a variance below rounding is none
    SELECT *, CASE WHEN square_mean - activation_mean ** 2 > 1e-12 * square_mean
        THEN square_mean - activation_mean ** 2 ELSE 0 END AS variance
    FROM fired
),
kept AS (
    SELECT layer, feature, count(DISTINCT graph_id) AS n_graphs, count(*) AS n_nodes,
        fsum(influence) AS influence_sum
    FROM nodes WHERE kind = 'feature' GROUP BY layer, feature
)
SELECT layer, feature,
    coalesce(n_graphs, 0) AS n_graphs,
    coalesce(n_graphs, 0) / graph_count.n AS graph_frequency,
    coalesce(n_nodes, 0) AS n_nodes,
    coalesce(influence_sum, 0) AS influence_sum,
    influence_sum / n_graphs AS influence_mean,
    coalesce(n_prompts, 0) AS n_prompts,
    coalesce(n_firings, 0) AS n_firings,
    coalesce(n_firings, 0) / token_count.n AS activation_frequency,
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
