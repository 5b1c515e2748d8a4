-- question: how often, how strongly and of which sign are the edges that are remembered?
-- grain:    set of metadata values x frequent edge
-- cost:     one pass over the run's counts of edges
CREATE OR REPLACE TABLE state.frequent_counts AS
SELECT value_set, source, target,
    sum(support)::BIGINT AS support,
    fsum(weight_sum) AS weight_sum,
    fsum(weight_square_sum) AS weight_square_sum,
    sum(n_positive)::BIGINT AS n_positive,
    sum(n_negative)::BIGINT AS n_negative,
    fsum(edge_score_sum) AS edge_score_sum
FROM state.edges SEMI JOIN state.frequent_edges USING (source, target)
GROUP BY value_set, source, target
