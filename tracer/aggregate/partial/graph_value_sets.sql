-- question: which values of the metadata does each graph have, as one text?
-- grain:    graph
-- cost:     one grouping of the values of the batch's graphs
CREATE TEMP TABLE graph_value_sets AS
SELECT graph_idx, to_json(list([by_column, by_value] ORDER BY by_column))::VARCHAR AS value_set,
    dense_rank() OVER (ORDER BY value_set) AS value_set_idx
FROM graph_values GROUP BY graph_idx
