-- question: what do firings of every strength look like?
-- grain:    feature x firing drawn, in groups of equal number by activation
-- cost:     three sorts of the layer's kept candidates
SELECT layer, feature, 'quantile' AS kind,
    ((row_number() OVER (PARTITION BY feature ORDER BY activation, document_key DESC) - 1) * $n_quantiles)
        // count(*) OVER (PARTITION BY feature) AS quantile,
    row_number() OVER (PARTITION BY feature ORDER BY activation DESC, document_key) - 1 AS rank,
    document_key, window_start, pos, activation, firing_pos, firing_activations, NULL::VARCHAR AS reason, text_hash
FROM (
    SELECT * FROM part_example_candidates
    WHERE kind = 'quantile' AND layer = $layer
    QUALIFY row_number() OVER (PARTITION BY feature ORDER BY draw, document_key) <= $n_drawn
)
