-- question: in how many graphs of its value are the tokens and logits of a consensus circuit?
-- grain:    consensus circuit x token or logit at an end of one of its edges
-- cost:     one join with the run's counts of tokens and logits
INSERT INTO staged_circuit_members BY NAME
WITH ends AS (
    SELECT circuit_id, source_kind AS kind, source_feature AS feature
    FROM staged_circuit_edges WHERE source_kind = 'token'
    UNION
    SELECT circuit_id, target_kind, target_feature FROM staged_circuit_edges WHERE target_kind = 'logit'
)
SELECT circuit_id, kind, -1 AS layer, feature, token, support,
    support / n_graphs AS frequency,
    influence_sum / support AS influence_mean,
    support / n_graphs AS weight
FROM ends
JOIN circuit_value_sizes USING (circuit_id)
JOIN state.vocabulary AS counted USING (by_column, by_value, kind)
JOIN state.tokens USING (token_id)
WHERE counted.token_id = ends.feature
