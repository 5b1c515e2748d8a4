-- question: which edges do enough graphs keep, given those that nearly enough kept when all counts were looked at?
-- grain:    edge
-- cost:     a grouping of the counts since then; one pass over all counts for the edges that are new among many of them
CREATE OR REPLACE TEMP TABLE gained AS
SELECT source, target, sum(support)::BIGINT AS support
FROM state.edges WHERE rowid >= $n_known GROUP BY source, target;

CREATE OR REPLACE TEMP TABLE risen AS
SELECT source, target FROM gained ANTI JOIN state.frequent_edges USING (source, target) WHERE support >= $least_gain;

CREATE OR REPLACE TEMP TABLE recurring_edges AS
SELECT source, target FROM state.frequent_edges AS frequent LEFT JOIN gained USING (source, target)
WHERE frequent.support + coalesce(gained.support, 0) >= $min_support
UNION ALL
SELECT source, target FROM state.edges SEMI JOIN risen USING (source, target)
GROUP BY source, target HAVING sum(support) >= $min_support
ORDER BY source, target;

DROP TABLE gained;

DROP TABLE risen;
