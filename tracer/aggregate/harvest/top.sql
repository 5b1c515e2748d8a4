-- question: which windows show the features of a layer best?
-- grain:    feature x rank; of firings of one text the strongest, of equal ones that of the lower document
-- cost:     two sorts of the layer's kept candidates
SELECT layer, feature, 'top' AS kind, NULL::BIGINT AS quantile, row_number() OVER best - 1 AS rank,
    document_key, window_start, pos, activation, firing_pos, firing_activations, NULL::VARCHAR AS reason, text_hash
FROM (
    SELECT * FROM part_example_candidates
    WHERE kind = 'top' AND layer = $layer
    QUALIFY row_number() OVER (
        PARTITION BY feature, text_hash ORDER BY activation DESC, document_key, window_start, pos
    ) = 1
)
WINDOW best AS (PARTITION BY feature ORDER BY activation DESC, document_key)
QUALIFY row_number() OVER best <= $n_top
