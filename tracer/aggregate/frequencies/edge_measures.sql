-- question: which edges recur, how strong and of which sign, over the run and by metadata?
-- grain:    value of a metadata column (or the whole run) x edge
-- cost:     one pass over the run's counts of edges
CREATE OR REPLACE TEMP VIEW edge_measures AS
SELECT by_column, by_value, n_graphs,
    source_kind, source_layer, source_feature, target_kind, target_layer, target_feature,
    source_token, target_token, support,
    support / n_graphs AS frequency,
    weight_sum / support AS weight_mean,
    sample_sd(support, weight_sum, weight_square_sum) AS weight_sd,
    greatest(n_positive, n_negative, support - n_positive - n_negative) / support AS sign_agreement,
    edge_score_sum
FROM state.edges JOIN graph_counts USING (by_column, by_value)
