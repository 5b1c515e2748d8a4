"""Signals without a language model: how concentrated a feature's tokens are, what it promotes, how alike its texts."""

from collections.abc import Mapping

import polars as pl
import pyarrow as pa

from tracer.autointerp.feature_evidence import FeatureKey, Source
from tracer.tables.database import Connection, ask
from tracer.tables.rows import as_table
from tracer.tables.schema import TABLES

SIGNALS = """
-- question: how few tokens does a feature fire on, fire after, and promote?
-- grain:    feature that fired
-- cost:     one pass over feature_tokens
WITH shares AS (
    SELECT layer, feature, token, n_at,
        n_at / nullif(sum(n_at) OVER of_feature, 0) AS share_at,
        n_before / nullif(sum(n_before) OVER of_feature, 0) AS share_before
    FROM {schema}feature_tokens WINDOW of_feature AS (PARTITION BY layer, feature)
),
spread AS (
    SELECT layer, feature, -fsum(share_at * log2(share_at)) FILTER (share_at > 0) AS entropy_at,
        -fsum(share_before * log2(share_before)) FILTER (share_before > 0) AS entropy_before,
        arg_max(token, (n_at, token)) AS top_token, max(share_at) AS top_token_share
    FROM shares GROUP BY layer, feature
)
SELECT layer, feature, {is_from_harvest} AS is_from_harvest, n_firings, entropy_at, entropy_before, top_token,
    top_token_share, top_token_logits[1] / nullif(top_token_logits[-1], 0) AS logit_contrast
FROM {schema}features LEFT JOIN spread USING (layer, feature) WHERE n_firings > 0
"""


def read_signals(connection: Connection, source: Source, coherence: Mapping[FeatureKey, float]) -> pa.Table:
    """Rows of `feature_signals` for every feature that fired.

    Args:
        connection: to a results file, a harvest attached where `source` says so.
        source: where firings were counted.
        coherence: of the features for which it is known.
    """
    sql = SIGNALS.format(
        schema="harvest." if source.is_harvest else "", is_from_harvest="true" if source.is_harvest else "false"
    )
    frame = ask(connection, sql).with_columns(pl.col("is_from_harvest").cast(pl.Boolean))
    values = [coherence.get(key) for key in frame.select("layer", "feature").iter_rows()]
    frame = frame.with_columns(pl.Series("example_coherence", values, dtype=pl.Float64))
    return as_table(TABLES["feature_signals"], frame)
