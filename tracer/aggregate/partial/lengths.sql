-- question: how many graphs are there of each length, by metadata?
-- grain:    value of a metadata column x number of tokens
-- cost:     one pass over the batch's graphs
SELECT by_column, by_value, n_tokens, count(*) AS n_graphs
FROM graphs JOIN graph_values USING (graph_idx)
GROUP BY by_column, by_value, n_tokens
