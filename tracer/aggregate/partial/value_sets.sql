-- question: which values of the metadata go together in a graph, and in how many graphs?
-- grain:    set of values x value in it; the whole run is in every set
-- cost:     one grouping of the values of the batch's graphs
SELECT value_set, by_column, by_value, count(*) AS n_graphs
FROM graph_values JOIN graph_value_sets USING (graph_idx)
GROUP BY value_set, by_column, by_value
