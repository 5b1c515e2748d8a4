"""What the views ask of results.duckdb: one query and one function per question."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from tracer.corpus.tokens import visible
from tracer.errors import ArtifactError
from tracer.tables.database import query
from tracer.views.records import (
    CooccurringPair,
    FailureCount,
    FeatureRef,
    RecurringEdge,
    RecurringFeature,
    TaskFigures,
    TokenRef,
)

LARGEST_Q = 0.05
"""Pairs up to this q are said to co-occur beyond chance."""

BEST_LABEL = "best_label AS (SELECT layer, feature, label FROM labels WHERE target_kind = 'feature')"
"""One label per feature: the current one."""

Q_USED = "coalesce(q_above_stratified, q_above)"
"""What pairs are judged by: the null within strata, where there are strata."""

RUN = "SELECT * FROM runs"

TOTALS = f"""
    SELECT
        (SELECT avg(replacement_score) FROM graphs) AS replacement_mean,
        (SELECT avg(completeness_score) FROM graphs) AS completeness_mean,
        (SELECT avg(n_feature_nodes) FROM graphs) AS feature_nodes_mean,
        (SELECT count(is_correct) FROM prompts) AS n_answers,
        (SELECT avg(is_correct::INT) FROM prompts) AS accuracy,
        (SELECT count(*) FROM features WHERE support > 0) AS n_features,
        (SELECT count(*) FROM cooccurrence) AS n_pairs,
        (SELECT count(*) FROM cooccurrence WHERE {Q_USED} <= {LARGEST_Q}) AS n_pairs_beyond_chance
"""

TASKS = """
    -- `prompts` has columns of the corpus beside its own, so shared names are told apart
    WITH
    answered AS (
        SELECT task, count(*) AS n_prompts, count(is_correct) AS n_answers, avg(is_correct::INT) AS accuracy
        FROM prompts WHERE task IS NOT NULL GROUP BY task
    ),
    traced AS (
        SELECT
            p.task, count(*) AS n_graphs, avg(g.replacement_score) AS replacement_mean,
            avg(g.completeness_score) AS completeness_mean, avg(g.n_feature_nodes) AS feature_nodes_mean
        FROM graphs g JOIN prompts p USING (prompt_id) GROUP BY p.task
    )
    SELECT answered.*, coalesce(n_graphs, 0) AS n_graphs, replacement_mean, completeness_mean, feature_nodes_mean
    FROM answered LEFT JOIN traced USING (task) ORDER BY task
"""

FAILURE_COUNTS = """
    SELECT stage, error_class, count(*) AS n_failures FROM failures
    GROUP BY ALL ORDER BY n_failures DESC, stage, error_class
"""

RECURRING_FEATURES = f"""
    WITH {BEST_LABEL}
    SELECT f.*, label FROM features f LEFT JOIN best_label USING (layer, feature)
    WHERE support > 0 ORDER BY support DESC, influence_sum DESC, layer, feature LIMIT {{n}}
"""

PAIRS = f"""
    WITH {BEST_LABEL}
    SELECT
        c.*, a.label AS label_a, b.label AS label_b,
        coalesce(expected_stratified, expected) AS expected_used, coalesce(lift_stratified, lift) AS lift_used,
        {Q_USED} AS q_used
    FROM cooccurrence c
    LEFT JOIN best_label a ON (layer_a, feature_a) = (a.layer, a.feature)
    LEFT JOIN best_label b ON (layer_b, feature_b) = (b.layer, b.feature)
    WHERE q_used <= {LARGEST_Q}
    ORDER BY q_used, lift_used DESC, support DESC, layer_a, feature_a, layer_b, feature_b LIMIT {{n}}
"""

EDGES = f"""
    WITH {BEST_LABEL}
    SELECT e.*, s.label AS source_label, t.label AS target_label
    FROM edge_stats e
    LEFT JOIN best_label s ON source_kind = 'feature' AND (source_layer, source_feature) = (s.layer, s.feature)
    LEFT JOIN best_label t ON target_kind = 'feature' AND (target_layer, target_feature) = (t.layer, t.feature)
    ORDER BY edge_score_sum DESC, source_kind, source_layer, source_feature, target_kind, target_layer, target_feature
    LIMIT {{n}}
"""

LABEL_METHODS = "SELECT DISTINCT method FROM labels WHERE target_kind = 'feature' ORDER BY method"


def read_run(database: Path) -> dict[str, Any]:
    """The row of `runs`.

    Raises:
        ArtifactError: there is not exactly one.
    """
    runs = query(database, RUN)
    if runs.height != 1:
        raise ArtifactError(
            str(database), found=f"{runs.height} rows in `runs`", expected="one", to_do="Aggregate the run again."
        )
    return runs.row(0, named=True)


def read_coverage(database: Path) -> float:
    """The share of logit weight whose influence was followed, in the graph where it is least."""
    return query(database, "SELECT 1 - coalesce(max(uncovered_influence), 0) FROM graphs").item()


def read_totals(database: Path) -> dict[str, Any]:
    """Means and counts over the whole run."""
    return query(database, TOTALS).row(0, named=True)


def read_strata(run: dict[str, Any], database: Path) -> str | None:
    """The metadata column within which co-occurrence is expected, or None without strata."""
    if not query(database, "SELECT count(expected_stratified) AS n FROM cooccurrence").item():
        return None
    return json.loads(run["config"]).get("aggregate", {}).get("stratify_by") or "a metadata column"


def read_label_methods(database: Path) -> tuple[str, ...]:
    """Who labelled."""
    return tuple(query(database, LABEL_METHODS)["method"])


def read_tasks(database: Path) -> tuple[TaskFigures, ...]:
    """Figures by task, by name; empty where the corpus names no tasks."""
    return tuple(TaskFigures(**row) for row in query(database, TASKS).iter_rows(named=True))


def read_failure_counts(database: Path) -> tuple[FailureCount, ...]:
    """Failures by stage and class, commonest first."""
    return tuple(FailureCount(**row) for row in query(database, FAILURE_COUNTS).iter_rows(named=True))


def read_failures(database: Path, n: int) -> pl.DataFrame:
    """The first `n` rows of `failures`."""
    return query(database, f"SELECT * FROM failures ORDER BY stage, item_id LIMIT {n}")


def read_features(database: Path, n: int) -> tuple[RecurringFeature, ...]:
    """The `n` features that most graphs keep."""
    return tuple(
        RecurringFeature(
            ref=FeatureRef(layer=row["layer"], feature=row["feature"], label=row["label"]),
            support=row["support"],
            graph_frequency=row["graph_frequency"],
            activation_frequency=row["activation_frequency"],
            influence_mean=row["influence_mean"],
            activation_max=row["activation_max"],
            top_tokens=tuple(visible(token) for token in row["top_tokens"] or ()),
        )
        for row in query(database, RECURRING_FEATURES.format(n=n)).iter_rows(named=True)
    )


def read_pairs(database: Path, n: int) -> tuple[CooccurringPair, ...]:
    """The `n` pairs that co-occur most beyond chance: by q, then by lift."""
    return tuple(
        CooccurringPair(
            a=FeatureRef(layer=row["layer_a"], feature=row["feature_a"], label=row["label_a"]),
            b=FeatureRef(layer=row["layer_b"], feature=row["feature_b"], label=row["label_b"]),
            support=row["support"],
            expected=row["expected_used"],
            lift=row["lift_used"],
            q=row["q_used"],
        )
        for row in query(database, PAIRS.format(n=n)).iter_rows(named=True)
    )


def read_edges(database: Path, n: int) -> tuple[RecurringEdge, ...]:
    """The `n` recurring edges with most edge score over the run."""
    return tuple(
        RecurringEdge(
            source=_edge_end(row, "source"),
            target=_edge_end(row, "target"),
            support=row["support"],
            weight_mean=row["weight_mean"],
            weight_sd=row["weight_sd"],
            sign_agreement=row["sign_agreement"],
        )
        for row in query(database, EDGES.format(n=n)).iter_rows(named=True)
    )


def _edge_end(row: dict[str, Any], end: str) -> FeatureRef | TokenRef:
    kind = row[f"{end}_kind"]
    if kind == "feature":
        return FeatureRef(layer=row[f"{end}_layer"], feature=row[f"{end}_feature"], label=row[f"{end}_label"])
    return TokenRef(kind=kind, label=visible(row[f"{end}_token"]))
