-- question: which features make up each cluster of graphs?
-- grain:    cluster of graphs x feature
-- cost:     one grouping of the feature nodes by graph, one by cluster
INSERT INTO staged_circuit_members BY NAME
WITH held AS (
    SELECT graph_id, layer, feature, fsum(influence) AS influence
    FROM nodes WHERE kind = 'feature' GROUP BY ALL
),
norms AS (SELECT graph_id, sqrt(fsum(abs(influence))) AS norm FROM held GROUP BY graph_id),
sizes AS (SELECT circuit_id, count(*) AS n_graphs FROM staged_circuit_graphs GROUP BY circuit_id),
in_cluster AS (
    SELECT circuit_id, layer, feature, count(*) AS support, fsum(influence) AS influence_sum,
        -- the row of a graph that partition.py clusters
        fsum(CASE WHEN norm > 0 THEN sqrt(abs(influence)) / norm ELSE 0 END) AS centre
    FROM held JOIN norms USING (graph_id) JOIN staged_circuit_graphs USING (graph_id)
    GROUP BY circuit_id, layer, feature
),
weighed AS (
    SELECT *, centre / nullif(fsum(centre) OVER (PARTITION BY circuit_id), 0) AS weight
    FROM in_cluster
)
SELECT circuit_id, 'feature' AS kind, layer, feature, support,
    support / n_graphs AS frequency,
    influence_sum / support AS influence_mean,
    weight
FROM weighed JOIN sizes USING (circuit_id)
WHERE support >= $min_support
QUALIFY row_number() OVER (PARTITION BY circuit_id ORDER BY weight DESC, layer, feature) <= $max_members
