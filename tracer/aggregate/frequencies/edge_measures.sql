-- question: which edges recur, how strong and of which sign, over the run and by metadata?
-- grain:    value of a metadata column (or the whole run) x edge
-- cost:     one pass over the counts of recurring edges
CREATE OR REPLACE TEMP VIEW edge_measures AS
SELECT by_column, by_value, n_graphs,
    end_kind(source, 'token') AS source_kind, end_layer(source) AS source_layer, end_idx(source) AS source_feature,
    end_kind(target, 'logit') AS target_kind, end_layer(target) AS target_layer, end_idx(target) AS target_feature,
    source_text.token AS source_token,
    target_text.token AS target_token,
    support,
    support / n_graphs AS frequency,
    weight_sum / support AS weight_mean,
    sample_sd(support, weight_sum, weight_square_sum) AS weight_sd,
    greatest(n_positive, n_negative, support - n_positive - n_negative) / support AS sign_agreement,
    edge_score_sum
FROM edge_counts
JOIN graph_counts USING (by_column, by_value)
LEFT JOIN state.tokens AS source_text ON source < 0 AND source_text.token_id = end_idx(source)
LEFT JOIN state.tokens AS target_text ON target < 0 AND target_text.token_id = end_idx(target)
