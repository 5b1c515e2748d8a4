-- question: at which layers and positions do transcoders fail, over the run and by metadata?
-- grain:    value of a metadata column (or the whole run) x layer x position with an error node in any graph
-- cost:     one pass over the run's counts of errors
CREATE OR REPLACE TEMP VIEW error_measures AS
WITH reaching AS (
    SELECT by_column, by_value, pos, sum(n_graphs)::BIGINT AS n_graphs
    FROM (SELECT DISTINCT by_column, by_value, pos FROM state.errors)
    JOIN state.lengths USING (by_column, by_value)
    WHERE n_tokens > pos
    GROUP BY by_column, by_value, pos
)
SELECT by_column, by_value, layer, pos, support, n_graphs,
    support / n_graphs AS frequency,
    influence_sum,
    influence_sum / n_graphs AS influence_mean
FROM state.errors JOIN reaching USING (by_column, by_value, pos)
