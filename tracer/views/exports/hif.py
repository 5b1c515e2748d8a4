"""The hypergraph of a run in the Hypergraph Interchange Format (HIF): one JSON object with the network type,
incidences (edge, node, weight), nodes and edges, each with attributes. https://github.com/HIF-org/HIF-standard

Rows are written as they are read, so that no more than a batch of them is held.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from tracer.tables.database import Connection, ask, connect
from tracer.views.exports.folders import new_file
from tracer.views.readings import BEST_LABEL

Which = Literal["graphs", "sets"]
"""What hyperedges are: the features of each graph, or the sets of `hyperedges`."""
ROWS_AT_ONCE = 50_000
KEYS = ("edge", "node", "weight")
"""Columns that the format names; all others are attributes."""
MEANINGS = {
    "graphs": {
        "edge": "a graph: the attribution graph of one prompt",
        "node": "a feature, L0/12 being feature 12 of layer 0; its weight: graphs that hold it",
        "incidence weight": "influence of the feature in the graph, a share of logit weight",
    },
    "sets": {
        "edge": "a set that recurs in graphs; its weight: graphs that hold all members",
        "node": "a feature, L0/12; a component, MLP0 or L9H9; or a feature at a position, L0/12@3",
    },
}

GRAPH_INCIDENCES = """
    SELECT graph_id AS edge, 'L' || layer || '/' || feature AS node, influence AS weight, n_nodes, activation_max
    FROM incidence ORDER BY graph_id, layer, feature
"""
GRAPH_NODES = f"""
    WITH {BEST_LABEL}
    SELECT 'L' || layer || '/' || feature AS node, support AS weight, layer, feature, label, graph_frequency,
        influence_mean, is_dense
    FROM features LEFT JOIN best_label USING (layer, feature) WHERE support > 0 ORDER BY layer, feature
"""
GRAPH_EDGES = """
    SELECT graph_id AS edge, prompt_id, text, task, split, pair_id, answer, is_correct, prompts.n_tokens,
        completeness_score, replacement_score, metadata
    FROM graphs JOIN prompts USING (prompt_id) ORDER BY graph_id
"""
MEMBER = """
    CASE WHEN kind = 'mlp' THEN 'MLP' || layer
        WHEN kind = 'head' THEN 'L' || layer || 'H' || head
        WHEN pos >= 0 THEN 'L' || layer || '/' || feature || '@' || pos
        ELSE 'L' || layer || '/' || feature END
"""
SET_INCIDENCES = f"""
    SELECT granularity || '/' || hyperedge_id AS edge, {MEMBER} AS node
    FROM hyperedge_members ORDER BY granularity, hyperedge_id, member_idx
"""
SET_NODES = f"""
    WITH {BEST_LABEL},
    members AS (SELECT DISTINCT kind, layer, head, feature, pos FROM hyperedge_members)
    SELECT {MEMBER} AS node, kind, layer, nullif(head, -1) AS head, nullif(feature, -1) AS feature,
        nullif(pos, -1) AS pos, label
    FROM members LEFT JOIN best_label USING (layer, feature) ORDER BY kind, layer, head, feature, pos
"""
SET_EDGES = """
    SELECT granularity || '/' || hyperedge_id AS edge, support AS weight, granularity, size, expected, lift,
        lift_given_parts, q_above, is_closed, is_maximal
    FROM hyperedges ORDER BY granularity, hyperedge_id
"""
SECTIONS: dict[str, dict[str, str]] = {
    "graphs": {"incidences": GRAPH_INCIDENCES, "nodes": GRAPH_NODES, "edges": GRAPH_EDGES},
    "sets": {"incidences": SET_INCIDENCES, "nodes": SET_NODES, "edges": SET_EDGES},
}
RUN = "SELECT run_id, model, transcoders, corpus, config_fingerprint, corpus_fingerprint, tracer_version FROM runs"


@dataclass(frozen=True, slots=True, kw_only=True)
class HifSummary:
    """How many records were written."""

    n_edges: int
    n_nodes: int
    n_incidences: int


def export_hif(database: Path, out: Path, which: Which = "graphs") -> HifSummary:
    """Write the hypergraph of a run into one JSON file; what is null is left out.

    Args:
        database: the results.duckdb of a finished run.
        out: the file, which is replaced if it is there.
        which: what hyperedges are: each graph's features, or the sets that recur.

    Raises:
        ArtifactError: `database` is no results file, or a folder has the name of the file.
    """
    counts = {}
    with connect(database) as connection, new_file(out) as file:
        metadata = ask(connection, RUN).row(0, named=True) | {"hyperedges": which, "meaning": MEANINGS[which]}
        file.write(f'{{"network-type": "undirected",\n"metadata": {_line(metadata)}')
        for section, sql in SECTIONS[which].items():
            file.write(f',\n"{section}": [')
            counts[section] = _write_records(connection, sql, file)
            file.write("]")
        file.write("}\n")
    return HifSummary(n_edges=counts["edges"], n_nodes=counts["nodes"], n_incidences=counts["incidences"])


def _write_records(connection: Connection, sql: str, file: TextIO) -> int:
    n_written = 0
    for record in _records(connection, sql):
        file.write(f"{',' if n_written else ''}\n{_line(record)}")
        n_written += 1
    return n_written


def _records(connection: Connection, sql: str) -> Iterator[dict[str, Any]]:
    for batch in connection.sql(sql).to_arrow_reader(ROWS_AT_ONCE):
        for row in batch.to_pylist():
            if row.get("metadata") is not None:
                row["metadata"] = json.loads(row["metadata"])
            known = {name: value for name, value in row.items() if _is_known(value)}
            attributes = {name: value for name, value in known.items() if name not in KEYS}
            record = {name: known[name] for name in KEYS if name in known}
            yield record | ({"attrs": attributes} if attributes else {})


def _is_known(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, allow_nan=False)
