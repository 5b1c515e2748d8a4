"""The part that features play in the graphs of a run: what acts on them, on what they act, where, what they read."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracer.harvest.examples import example_split
from tracer.tables.database import Connection

N_ENDS = 6
"""Sources and targets shown of a feature."""
N_TRIED = 8
"""Nodes looked at for each prompt shown: about half are of prompts that labels are tested on."""
READ_SHARE = 0.1
"""A prompt token counts as read when at least this share of a node's input goes back to it."""
WANTED = "(SELECT unnest($layers) AS layer, unnest($features) AS feature)"

SUPPORT_SQL = f"""
SELECT layer, feature, support, (SELECT count(*) FROM graphs), influence_mean
FROM features JOIN {WANTED} USING (layer, feature) WHERE support > 0
"""
PLACES_SQL = f"""
SELECT layer, feature, n_tokens - 1 - pos AS n_from_end, count(*) AS n
FROM nodes JOIN {WANTED} USING (layer, feature) JOIN graphs USING (graph_id) WHERE kind = 'feature'
GROUP BY layer, feature, n_from_end
QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY n DESC, n_from_end) <= 3
ORDER BY layer, feature, n DESC, n_from_end
"""
SOURCES_SQL = f"""
SELECT layer, feature, source_kind, source_layer, source_feature, source_token, weight_mean, e.support
FROM edge_stats AS e JOIN {WANTED} ON target_kind = 'feature' AND (target_layer, target_feature) = (layer, feature)
QUALIFY row_number() OVER (
    PARTITION BY layer, feature ORDER BY edge_score_sum DESC, source_kind, source_layer, source_feature
) <= $n
ORDER BY layer, feature, edge_score_sum DESC, source_kind, source_layer, source_feature
"""
TARGETS_SQL = f"""
SELECT layer, feature, target_kind, target_layer, target_feature, target_token, weight_mean, e.support
FROM edge_stats AS e JOIN {WANTED} ON source_kind = 'feature' AND (source_layer, source_feature) = (layer, feature)
QUALIFY row_number() OVER (
    PARTITION BY layer, feature ORDER BY edge_score_sum DESC, target_kind, target_layer, target_feature
) <= $n
ORDER BY layer, feature, edge_score_sum DESC, target_kind, target_layer, target_feature
"""
SHOWN_SQL = f"""
SELECT layer, feature, graph_id, node_idx, pos, prompt_id, tokens
FROM nodes JOIN {WANTED} USING (layer, feature) JOIN graphs USING (graph_id) JOIN prompts USING (prompt_id)
WHERE kind = 'feature'
QUALIFY row_number() OVER (PARTITION BY layer, feature ORDER BY influence DESC, graph_id, node_idx) <= $n
ORDER BY layer, feature, influence DESC, graph_id, node_idx
"""
GRAPH_SQL = """
SELECT graph_id, target_idx, source_idx, normalised_weight FROM edges WHERE graph_id IN (SELECT unnest($graphs))
"""
TOKENS_SQL = """
SELECT graph_id, node_idx, pos FROM nodes WHERE kind = 'token' AND graph_id IN (SELECT unnest($graphs))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The other end of a recurring edge: `name` is a feature's (L0/12) or a token's text."""

    kind: str
    name: str
    layer: int
    feature: int
    weight: float
    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitText:
    """A prompt (`document_id`) in whose graph the feature is kept at `pos`; it goes back to the tokens at `read`."""

    document_id: str
    tokens: tuple[str, ...]
    pos: int
    read: frozenset[int]
    split: str = "explain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """The part of a feature in the run's graphs; `places` are (positions from the last one, nodes there)."""

    support: int
    n_graphs: int
    influence_mean: float
    places: tuple[tuple[int, int], ...]
    sources: tuple[End, ...]
    targets: tuple[End, ...]
    texts: tuple[CircuitText, ...]


def read_roles(
    connection: Connection, keys: Sequence[tuple[int, int]], *, n_examples: int
) -> dict[tuple[int, int], Role]:
    """Roles by (layer, feature) of those features that any graph keeps.

    Args:
        connection: to a results file.
        keys: the features.
        n_examples: prompts shown of each: where it has most influence, of the prompts that labels may be made from.
    """
    wanted = {"layers": [layer for layer, _ in keys], "features": [feature for _, feature in keys]}
    places = defaultdict(list)
    for layer, feature, n_from_end, n in connection.execute(PLACES_SQL, wanted).fetchall():
        places[layer, feature].append((n_from_end, n))
    sources = _ends(connection, SOURCES_SQL, wanted)
    targets = _ends(connection, TARGETS_SQL, wanted)
    texts = _texts(connection, wanted, n_examples) if n_examples else {}
    return {
        (layer, feature): Role(
            support=support,
            n_graphs=n_graphs,
            influence_mean=influence,
            places=tuple(places[layer, feature]),
            sources=tuple(sources.get((layer, feature), ())),
            targets=tuple(targets.get((layer, feature), ())),
            texts=tuple(texts.get((layer, feature), ())),
        )
        for layer, feature, support, n_graphs, influence in connection.execute(SUPPORT_SQL, wanted).fetchall()
    }


def _ends(connection: Connection, sql: str, wanted: dict[str, list[int]]) -> dict[tuple[int, int], list[End]]:
    ends = defaultdict(list)
    for layer, feature, kind, end_layer, end_feature, token, weight, support in connection.execute(
        sql, wanted | {"n": N_ENDS}
    ).fetchall():
        name = f"L{end_layer}/{end_feature}" if kind == "feature" else token
        ends[layer, feature].append(
            End(kind=kind, name=name, layer=end_layer, feature=end_feature, weight=weight, support=support)
        )
    return ends


def _texts(
    connection: Connection, wanted: dict[str, list[int]], n_examples: int
) -> dict[tuple[int, int], list[CircuitText]]:
    found = connection.execute(SHOWN_SQL, wanted | {"n": N_TRIED * n_examples}).fetchall()
    rows = [row for row in found if example_split(row[5]) == "explain"]
    graphs = {"graphs": list({graph_id for _, _, graph_id, *_ in rows})}
    edges: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    tokens: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for graph_id, *edge in connection.execute(GRAPH_SQL, graphs).fetchall():
        edges[graph_id].append(tuple(edge))
    for graph_id, *token in connection.execute(TOKENS_SQL, graphs).fetchall():
        tokens[graph_id].append(tuple(token))
    shown: dict[tuple[int, int], list[CircuitText]] = defaultdict(list)
    for layer, feature, graph_id, node_idx, pos, prompt_id, words in rows:
        texts = shown[layer, feature]
        if len(texts) >= n_examples or any(text.document_id == prompt_id for text in texts):
            continue
        read = read_positions(edges[graph_id], tokens[graph_id], node_idx)
        texts.append(CircuitText(document_id=prompt_id, tokens=tuple(words), pos=pos, read=read))
    return shown


def read_positions(
    edges: Sequence[tuple[int, int, float]], tokens: Sequence[tuple[int, int]], node_idx: int
) -> frozenset[int]:
    """Positions of the prompt tokens that a node's input goes back to, over all paths of a pruned graph.

    Args:
        edges: (target, source, normalised weight) of the graph.
        tokens: (node, position) of its tokens.
        node_idx: the node.
    """
    n_nodes = 1 + max((node_idx, *(max(edge[:2]) for edge in edges), *(node for node, _ in tokens)))
    shares = np.zeros((n_nodes, n_nodes))
    for target, source, weight in edges:
        shares[target, source] = weight
    reached = total = np.eye(n_nodes)[node_idx]
    for _ in range(n_nodes):  # a graph has no cycles, so no path is longer
        reached = reached @ shares
        if not reached.any():
            break
        total = total + reached
    return frozenset(pos for node, pos in tokens if total[node] >= READ_SHARE)
