-- question: how much of each edge does each attention head carry?
-- grain:    graph x kept edge x head
-- cost:     one window and one join over the batch's head loadings; nothing where there are none
CREATE TEMP TABLE carried AS
WITH shares AS (
    SELECT graph_id, target_idx, source_idx, kind, layer, head, rank = 0 AS is_largest,
        abs(weight) / nullif(sum(abs(weight)) OVER (PARTITION BY graph_id, target_idx, source_idx), 0) AS share
    FROM part_head_loadings
)
SELECT graph_id, source_idx, layer, head, is_largest, share * edge_score AS carried
FROM shares JOIN part_edges USING (graph_id, target_idx, source_idx)
WHERE shares.kind = 'head' AND share IS NOT NULL
