-- question: how often, how strongly and of which sign are the edges that recur, over the run and by metadata?
-- grain:    value of a metadata column (or the whole run) x recurring edge
-- cost:     one grouping of what is remembered of them and of the counts since then; one pass over all counts for edges
--           that were not frequent then
CREATE OR REPLACE TEMP TABLE edge_counts AS
WITH risen AS (
    FROM recurring_edges ANTI JOIN state.frequent_edges USING (source, target)
),
counts AS (
    FROM state.frequent_counts SEMI JOIN recurring_edges USING (source, target)
    UNION ALL BY NAME
    SELECT * FROM state.edges SEMI JOIN recurring_edges USING (source, target) WHERE state.edges.rowid >= $n_known
    UNION ALL BY NAME
    SELECT * FROM state.edges SEMI JOIN risen USING (source, target) WHERE state.edges.rowid < $n_known
)
SELECT by_column, by_value, source, target,
    sum(support)::BIGINT AS support,
    fsum(weight_sum) AS weight_sum,
    fsum(weight_square_sum) AS weight_square_sum,
    sum(n_positive)::BIGINT AS n_positive,
    sum(n_negative)::BIGINT AS n_negative,
    fsum(edge_score_sum) AS edge_score_sum
FROM counts JOIN state.value_sets USING (value_set)
GROUP BY by_column, by_value, source, target
