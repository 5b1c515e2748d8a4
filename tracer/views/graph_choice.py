"""Which attribution graph stands for the run, and everything needed to draw it."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from tracer.tables.database import query
from tracer.tables.quoting import literal
from tracer.views.readings import BEST_LABEL

CHOICE = f"""
    WITH
    {BEST_LABEL.replace("label FROM", "kind AS label_kind FROM")},
    middle AS (SELECT median(n_nodes) AS n_nodes, median(completeness_score) AS completeness FROM graphs),
    ranked AS (
        SELECT
            g.graph_id,
            8 * coalesce(p.is_correct, false)::INT
            + 4 * coalesce(p.answer_prob >= 0.5, false)::INT
            + 2 * (g.n_nodes BETWEEN 0.6 * middle.n_nodes AND 1.1 * middle.n_nodes)::INT
            + (g.completeness_score >= middle.completeness)::INT AS merit
        FROM graphs g JOIN prompts p USING (prompt_id) CROSS JOIN middle
    ),
    candidates AS (SELECT * FROM ranked ORDER BY merit DESC, graph_id LIMIT 500),
    relayed AS (
        SELECT
            e.graph_id,
            sum(e.edge_score) FILTER (s.kind = 'feature' AND t.kind = 'feature') / sum(e.edge_score) AS relayed_share
        FROM edges e
        SEMI JOIN candidates USING (graph_id)
        JOIN nodes s ON (e.graph_id, e.source_idx) = (s.graph_id, s.node_idx)
        JOIN nodes t ON (e.graph_id, e.target_idx) = (t.graph_id, t.node_idx)
        GROUP BY e.graph_id
    ),
    labelled AS (
        SELECT graph_id, sum(influence) FILTER (label_kind <> 'unclear') / sum(influence) AS labelled_share
        FROM nodes SEMI JOIN candidates USING (graph_id) LEFT JOIN best_label USING (layer, feature)
        WHERE kind = 'feature' GROUP BY graph_id
    )
    SELECT graph_id FROM candidates LEFT JOIN relayed USING (graph_id) LEFT JOIN labelled USING (graph_id)
    ORDER BY
        merit DESC, relayed_share * labelled_share DESC NULLS LAST, relayed_share DESC NULLS LAST, graph_id
    LIMIT 1
"""
"""A right answer that the model is sure of, middling size, no less complete than most; among 500 of those the one with
the largest product of two shares: of edge score that passes from feature to feature, since it shows steps between token
and answer, and of feature influence that is on features whose label is not unclear, since those steps can be read."""

ABOUT = """
    SELECT
        g.graph_id, p.text, p.tokens, p.task, p.answer, p.is_correct, p.answer_prob,
        g.n_active_features, g.n_feature_nodes, g.n_error_nodes, g.n_nodes, g.n_edges,
        g.replacement_score, g.completeness_score, (SELECT n_layers FROM runs) AS n_layers
    FROM graphs g JOIN prompts p USING (prompt_id) WHERE g.graph_id = {graph_id}
"""

NODES = f"""
    WITH {BEST_LABEL}
    SELECT nodes.*, label, probability
    FROM nodes
    LEFT JOIN best_label ON kind = 'feature' AND (nodes.layer, nodes.feature) = (best_label.layer, best_label.feature)
    LEFT JOIN logits ON kind = 'logit' AND nodes.graph_id = logits.graph_id
        AND nodes.pos = logits.pos AND nodes.token IS NOT DISTINCT FROM logits.token
        AND nodes.token_id IS NOT DISTINCT FROM logits.token_id
    WHERE nodes.graph_id = {{graph_id}} ORDER BY node_idx
"""

EDGES = """
    SELECT * FROM edges WHERE graph_id = {graph_id}
    ORDER BY edge_score DESC, target_idx, source_idx LIMIT {n}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenGraph:
    """One attribution graph with its prompt; `edges` holds only the strongest, by edge score.

    `nodes` are rows of the table `nodes` with `label` (features) and `probability` (logits).
    """

    graph_id: str
    text: str
    tokens: tuple[str, ...]
    task: str | None
    answer: str | None
    is_correct: bool | None
    answer_prob: float | None
    n_active_features: int
    n_feature_nodes: int
    n_error_nodes: int
    n_nodes: int
    n_edges: int
    replacement_score: float
    completeness_score: float
    n_layers: int
    nodes: pl.DataFrame
    edges: pl.DataFrame


def choose_graph(database: Path, n_edges: int = 400) -> ChosenGraph | None:
    """The graph that stands for the run, with its `n_edges` strongest edges; None when the run made no graph."""
    chosen = query(database, CHOICE)
    return None if chosen.is_empty() else read_graph(database, chosen["graph_id"].item(), n_edges)


def read_graph(database: Path, graph_id: str, n_edges: int) -> ChosenGraph:
    """One graph by its id, which must exist."""
    name = literal(graph_id)
    about = query(database, ABOUT.format(graph_id=name)).row(0, named=True)
    return ChosenGraph(
        **about | {"tokens": tuple(about["tokens"])},
        nodes=query(database, NODES.format(graph_id=name)),
        edges=query(database, EDGES.format(graph_id=name, n=n_edges)),
    )
