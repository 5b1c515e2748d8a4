-- question: in what share of the graphs of a task, split or other value is each feature, and how strongly?
-- grain:    value of a metadata column x feature
-- cost:     one pass over the run's counts of features
INSERT INTO feature_frequency BY NAME
SELECT by_column, by_value, layer, feature, support, n_graphs,
    support / n_graphs AS frequency,
    support = n_graphs AS is_always_on,
    n_nodes, influence_sum,
    influence_sum / support AS influence_mean,
    sample_sd(support, influence_sum, influence_square_sum) AS influence_sd,
    activation_sum / n_nodes AS activation_mean,
    activation_min, activation_max
FROM state.features JOIN graph_counts USING (by_column, by_value)
WHERE by_column <> ''
ORDER BY by_column, by_value, layer, feature
