-- question: which windows show the features of a layer, and which do not although they might?
-- grain:    feature x kind x rank, with the tokens of the window around the place
-- cost:     that of its parts and a join with the windows of the corpus
WITH chosen AS (
    {top}
    UNION ALL
    {quantiles}
    UNION ALL
    SELECT layer, feature, kind, quantile, rank, document_key, window_start, pos, activation,
        firing_pos, firing_activations, reason, NULL::BIGINT AS text_hash
    FROM absent_rows
)
SELECT chosen.* EXCLUDE (window_start, text_hash),
    window_start AS document_start,
    texts.n - 1 AS copies,
    greatest(pos - $n_before, 0) AS shown_from,
    token_ids[greatest(pos - $n_before, 0) + 1 : pos + $n_after + 1] AS shown_ids,
    token_ids[greatest(pos - $n_context_before, 0) + 1 : pos + $n_context_after + 1] AS context_ids,
    greatest(pos - $n_context_before, 0) AS context_from,
    token_ids[pos + 1] AS token_id
FROM chosen
JOIN part_harvest_windows USING (document_key, window_start)
LEFT JOIN texts USING (text_hash)
