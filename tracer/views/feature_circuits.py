"""What a run says of one feature: its label, the graphs that hold it by task, and the edges into and out of it."""

from dataclasses import dataclass
from typing import Any

from tracer.corpus.tokens import visible
from tracer.tables.database import Connection, ask
from tracer.views.readings import BEST_LABEL
from tracer.views.records import FeatureRef, TokenRef

N_TASKS, N_EDGES = 12, 8

IN_GRAPHS = f"""
    WITH {BEST_LABEL.replace("label FROM", "label, description, method FROM")}
    SELECT $layer AS layer, $feature AS feature, label, description, method, coalesce(support, 0) AS support,
        coalesce(graph_frequency, 0) AS graph_frequency, coalesce(influence_sum, 0) AS influence_sum, influence_mean,
        is_always_on, (SELECT run_id FROM runs) AS run_id, (SELECT n_graphs FROM runs) AS n_graphs,
        (SELECT count(*) FROM features WHERE support > 0) AS n_features,
        1 + (SELECT count(*) FROM features AS other WHERE other.influence_sum > coalesce(f.influence_sum, 0)) AS place
    FROM (SELECT $layer AS layer, $feature AS feature)
    LEFT JOIN features AS f USING (layer, feature) LEFT JOIN best_label USING (layer, feature)
"""
BY_VALUE = f"""
    SELECT by_value, support, n_graphs, frequency, influence_mean FROM feature_frequency
    WHERE layer = $layer AND feature = $feature
        AND by_column = (SELECT by_column FROM feature_frequency ORDER BY by_column <> 'task', by_column LIMIT 1)
    ORDER BY frequency DESC, support DESC, by_value LIMIT {N_TASKS}
"""
EDGES = f"""
    WITH {BEST_LABEL}
    SELECT e.{{end}}_kind AS kind, e.{{end}}_layer AS layer, e.{{end}}_feature AS feature, label,
        {{token}} AS token, e.support, weight_mean, sign_agreement
    FROM edge_stats AS e
    LEFT JOIN best_label AS l ON {{end}}_kind = 'feature' AND ({{end}}_layer, {{end}}_feature) = (l.layer, l.feature)
    WHERE e.{{other}}_kind = 'feature' AND e.{{other}}_layer = $layer AND e.{{other}}_feature = $feature
    ORDER BY edge_score_sum DESC, kind, e.{{end}}_layer, e.{{end}}_feature, {{token}} LIMIT {N_EDGES}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeEnd:
    """The other end of an edge of the feature, and the edge's figures over the run."""

    ref: FeatureRef | TokenRef
    support: int
    weight_mean: float
    sign_agreement: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureInRun:
    """A feature in the graphs of a run: `figures` of all of them, `by_value` of the commonest tasks."""

    figures: dict[str, Any]
    by_value: tuple[dict[str, Any], ...]
    sources: tuple[EdgeEnd, ...]
    targets: tuple[EdgeEnd, ...]


def read_in_run(connection: Connection, layer: int, feature: int) -> FeatureInRun:
    """What the run that is open says of a feature, whether any graph holds it or none."""
    parameters = {"layer": layer, "feature": feature}
    return FeatureInRun(
        figures=ask(connection, IN_GRAPHS, parameters).row(0, named=True),
        by_value=tuple(ask(connection, BY_VALUE, parameters).iter_rows(named=True)),
        sources=_ends(connection, "source", "target", parameters),
        targets=_ends(connection, "target", "source", parameters),
    )


def read_labels(connection: Connection, features: list[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The labels that the run that is open has of some features."""
    if not features:
        return {}
    pairs = ", ".join(f"({layer}, {feature})" for layer, feature in features)
    sql = f"WITH {BEST_LABEL} SELECT layer, feature, label FROM best_label WHERE (layer, feature) IN ({pairs})"
    return {(layer, feature): label for layer, feature, label in ask(connection, sql).iter_rows()}


def _ends(connection: Connection, end: str, other: str, parameters: dict[str, int]) -> tuple[EdgeEnd, ...]:
    rows = ask(connection, EDGES.format(end=end, other=other, token=f"e.{end}_token"), parameters)
    return tuple(
        EdgeEnd(
            ref=FeatureRef(layer=row["layer"], feature=row["feature"], label=row["label"])
            if row["kind"] == "feature"
            else TokenRef(kind=row["kind"], label=visible(row["token"])),
            support=row["support"],
            weight_mean=row["weight_mean"],
            sign_agreement=row["sign_agreement"],
        )
        for row in rows.iter_rows(named=True)
    )
