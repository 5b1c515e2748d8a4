-- question: how much of each edge does each attention head carry?
-- grain:    kept edge x head
-- cost:     one window and one join over the batch's head loadings; nothing where there are none
CREATE TEMP TABLE carried AS
WITH shares AS (
    SELECT graph_idx, target, source, kind, layer, head, rank = 0 AS is_largest,
        abs(weight) / nullif(sum(abs(weight)) OVER (PARTITION BY target, source), 0) AS share
    FROM head_loadings
)
SELECT shares.graph_idx, shares.source, layer, head, is_largest, share * edge_score AS carried
FROM shares JOIN edges ON shares.target = edges.target AND shares.source = edges.source
WHERE shares.kind = 'head' AND share IS NOT NULL
