-- question: which edges recur, by metadata, how strong and of which sign?
-- grain:    set of metadata values x edge; a graph counts once, its weight being the sum over positions
-- cost:     two hash joins of the batch's edges with its nodes, then one grouping of (graph, edge)
WITH in_graph AS (
    SELECT edges.graph_idx, source.code AS source, target.code AS target,
        fsum(weight) AS weight,
        fsum(edge_score) AS edge_score
    FROM edges
    JOIN ends AS source ON source.place = edges.source
    JOIN ends AS target ON target.place = edges.target
    WHERE source.kind IN ('feature', 'token') AND target.kind IN ('feature', 'logit')
    GROUP BY edges.graph_idx, source.code, target.code
),
counted AS (
    SELECT value_set_idx, source, target,
        count(*)::INTEGER AS support,
        fsum(weight) AS weight_sum,
        fsum(weight * weight) AS weight_square_sum,
        count(*) FILTER (weight > 0)::INTEGER AS n_positive,
        count(*) FILTER (weight < 0)::INTEGER AS n_negative,
        fsum(edge_score) AS edge_score_sum
    FROM in_graph JOIN graph_value_sets USING (graph_idx)
    GROUP BY value_set_idx, source, target
)
SELECT value_set, counted.* EXCLUDE (value_set_idx)
FROM counted JOIN (SELECT DISTINCT value_set_idx, value_set FROM graph_value_sets) USING (value_set_idx)
