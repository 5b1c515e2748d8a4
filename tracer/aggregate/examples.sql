-- question: which windows show a feature best?
-- grain:    feature x rank
-- cost:     one sort of the shards' kept windows (shards x features x n_examples rows at most)
SELECT * REPLACE (row_number() OVER best - 1 AS rank)
FROM (SELECT * FROM {old} UNION ALL SELECT * FROM {new})
WHERE NOT isnan(activation)
WINDOW best AS (PARTITION BY layer, feature ORDER BY activation DESC, prompt_id, pos)
QUALIFY row_number() OVER best <= $n_examples
