-- question: how often, how strongly and of which sign are the edges that recur, over the run and by metadata?
-- grain:    value of a metadata column (or the whole run) x recurring edge
-- cost:     one pass over the run's counts of edges, one grouping of those that recur
CREATE OR REPLACE TEMP TABLE edge_counts AS
WITH by_set AS (
    SELECT value_set, source, target,
        sum(support) AS support,
        fsum(weight_sum) AS weight_sum,
        fsum(weight_square_sum) AS weight_square_sum,
        sum(n_positive) AS n_positive,
        sum(n_negative) AS n_negative,
        fsum(edge_score_sum) AS edge_score_sum
    FROM state.edges SEMI JOIN recurring_edges USING (source, target)
    GROUP BY value_set, source, target
)
SELECT by_column, by_value, source, target,
    sum(support)::BIGINT AS support,
    fsum(weight_sum) AS weight_sum,
    fsum(weight_square_sum) AS weight_square_sum,
    sum(n_positive)::BIGINT AS n_positive,
    sum(n_negative)::BIGINT AS n_negative,
    fsum(edge_score_sum) AS edge_score_sum
FROM by_set JOIN state.value_sets USING (value_set)
GROUP BY by_column, by_value, source, target
