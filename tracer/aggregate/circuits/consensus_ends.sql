-- question: in how many graphs of its value are the tokens and logits of a consensus circuit?
-- grain:    consensus circuit x token or logit at an end of one of its edges
-- cost:     one pass over the nodes that are no features, for each metadata column
INSERT INTO staged_circuit_members BY NAME
WITH ends AS (
    SELECT circuit_id, source_kind AS kind, source_feature AS feature
    FROM staged_circuit_edges WHERE source_kind = 'token'
    UNION
    SELECT circuit_id, target_kind, target_feature FROM staged_circuit_edges WHERE target_kind = 'logit'
),
in_graph AS (
    SELECT circuit_id, nodes.kind, token_id AS feature, graph_id, min(token) AS token, fsum(influence) AS influence
    FROM nodes JOIN circuit_values USING (graph_id)
    WHERE nodes.kind IN ('token', 'logit')
    GROUP BY ALL
)
SELECT circuit_id, kind, -1 AS layer, feature,
    min(in_graph.token) AS token,
    count(*) AS support,
    count(*) / any_value(n_graphs) AS frequency,
    fsum(influence) / count(*) AS influence_mean,
    count(*) / any_value(n_graphs) AS weight
FROM ends JOIN in_graph USING (circuit_id, kind, feature) JOIN circuit_value_sizes USING (circuit_id)
GROUP BY circuit_id, kind, feature
