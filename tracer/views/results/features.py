"""The features of a run, over all graphs or those of one value, with their labels."""

import polars as pl

from tracer.tables.database import Connection, ask
from tracer.views.readings import BEST_LABEL
from tracer.views.results.asking import check_value

COMMON = "f.layer, f.feature, label"
OVERALL = f"""
    WITH {BEST_LABEL}
    SELECT {COMMON}, f.support, (SELECT n_graphs FROM runs) AS n_graphs, f.graph_frequency AS frequency,
        f.is_always_on, f.influence_mean, f.kept_activation_mean AS activation_mean,
        f.kept_activation_min AS activation_min, f.activation_frequency, f.is_dense, f.top_tokens
    FROM features AS f LEFT JOIN best_label USING (layer, feature)
    WHERE f.support > 0 AND NOT ($hide_dense AND coalesce(f.is_dense, false))
    ORDER BY f.support DESC, f.influence_sum DESC, f.layer, f.feature
"""
BY_VALUE = f"""
    WITH {BEST_LABEL}
    SELECT {COMMON}, f.support, f.n_graphs, f.frequency, f.is_always_on, f.influence_mean, f.activation_mean,
        f.activation_min, overall.activation_frequency, overall.is_dense, overall.top_tokens
    FROM feature_frequency AS f
    LEFT JOIN features AS overall USING (layer, feature)
    LEFT JOIN best_label USING (layer, feature)
    WHERE f.by_column = $by_column AND f.by_value = $by_value
        AND NOT ($hide_dense AND coalesce(overall.is_dense, false))
    ORDER BY f.support DESC, f.influence_sum DESC, f.layer, f.feature
"""


def read_features(connection: Connection, by_value: str | None, by_column: str, *, hide_dense: bool) -> pl.DataFrame:
    """Features that graphs hold, most support first.

    Args:
        connection: to a results file.
        by_value: in the graphs of this value alone; None for all graphs.
        by_column: column of `prompts` that has it.
        hide_dense: leave out features that fire at more than `aggregate.dense_frequency` of all tokens.
    """
    if by_value is None:
        return ask(connection, OVERALL, {"hide_dense": hide_dense})
    check_value(connection, by_column, by_value)
    return ask(connection, BY_VALUE, {"hide_dense": hide_dense, "by_column": by_column, "by_value": by_value})
