"""What a language model is told of groups of features: how they were found, their members, what they do together."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracer.autointerp.feature_evidence import FeatureKey
from tracer.config.labels import GroupKind
from tracer.harvest.examples import example_split
from tracer.tables.database import Connection
from tracer.tables.quoting import quoted

N_MEMBERS, N_PROMPTS, N_PROMOTED = 20, 12, 15
"""Members, prompts and promoted tokens shown of a group."""
N_TRIED = 8
"""Prompts looked at for each one shown: those that labels are tested on, and repeated ones, are left out."""

CIRCUITS_SQL = """
SELECT circuit_id, c.kind, coalesce(c.by_column, parent.by_column), coalesce(c.by_value, parent.by_value), c.method,
    c.n_graphs, c.n_members
FROM circuits AS c LEFT JOIN (SELECT circuit_id AS parent_id, by_column, by_value FROM circuits) AS parent
    USING (parent_id)
WHERE c.kind = $kind ORDER BY c.n_graphs DESC NULLS LAST, c.n_members DESC, circuit_id LIMIT $n
"""
CIRCUIT_MEMBERS_SQL = """
SELECT layer, feature, coalesce(frequency, weight), influence_mean FROM circuit_members
WHERE circuit_id = $id AND kind = 'feature'
ORDER BY coalesce(influence_mean, 0) * coalesce(frequency, weight, 1) DESC, weight DESC, layer, feature LIMIT $n
"""
HYPEREDGES_SQL = """
SELECT hyperedge_id, support, size FROM hyperedges WHERE granularity = 'feature'
ORDER BY lift_given_parts DESC NULLS LAST, support DESC, hyperedge_id LIMIT $n
"""
HYPEREDGE_MEMBERS_SQL = """
SELECT layer, feature, 1.0::DOUBLE, influence_mean FROM hyperedge_members JOIN features USING (layer, feature)
WHERE granularity = 'feature' AND hyperedge_id = $id ORDER BY member_idx LIMIT $n
"""
MLPS_SQL = """
SELECT layer, by_column, by_value, max(n_graphs) AS n_graphs, count(*) AS n_members
FROM feature_frequency GROUP BY ALL ORDER BY n_graphs DESC, by_column, by_value, layer LIMIT $n
"""
MLP_MEMBERS_SQL = """
SELECT layer, feature, frequency, influence_mean FROM feature_frequency
WHERE layer = $layer AND by_column = $by_column AND by_value = $by_value
ORDER BY influence_sum DESC, feature LIMIT $n
"""
PROMPTS_SQL = """
WITH held AS (
    SELECT graph_id, count(DISTINCT (layer, feature)) AS n_members, sum(influence) AS influence
    FROM nodes JOIN (SELECT unnest($layers) AS layer, unnest($features) AS feature) USING (layer, feature)
    WHERE kind = 'feature' GROUP BY graph_id
)
SELECT prompt_id, tokens, l.token, n_members, held.influence
FROM held JOIN graphs USING (graph_id) JOIN prompts AS p USING (prompt_id)
JOIN logits AS l ON l.graph_id = held.graph_id AND l.target_idx = 0
WHERE {where}
ORDER BY n_members DESC, held.influence DESC, prompt_id LIMIT $n
"""
PROMOTED_SQL = """
SELECT layer, feature, top_tokens, top_token_logits
FROM features JOIN (SELECT unnest($layers) AS layer, unnest($features) AS feature) USING (layer, feature)
"""

HOW = {
    "consensus": "features that the circuits of many prompts of one sort share",
    "supernode": "features with the same sources and targets, within the circuits of one sort of prompt",
    "feature_cluster": "features that are in the circuits of the same prompts more often than by chance",
    "profile_cluster": "features with the same sources and targets in the circuits of all prompts",
    "graph_cluster": "features of prompts whose circuits are alike",
    "hyperedge": "a set of features that recurs in circuits as a whole",
    "mlp": "the features of one MLP layer that matter most in one sort of prompt",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A feature of a group; `frequency` is the share of the group's graphs that hold it, or how much it belongs."""

    layer: int
    feature: int
    frequency: float | None
    influence: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointPrompt:
    """A prompt whose graph holds many members at once, and the likeliest next token."""

    document_id: str
    split: str
    tokens: tuple[str, ...]
    next_token: str
    n_members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupEvidence:
    """All that is told of a group; the value of the metadata column that it is of is left out on purpose.

    `promoted` is (token, logit summed over the members by how often they are in the group's graphs).
    """

    target_kind: str
    target_id: str
    layer: int | None
    kind: GroupKind
    n_graphs: int | None
    n_members: int
    members: tuple[Member, ...]
    prompts: tuple[JointPrompt, ...]
    promoted: tuple[tuple[str, float], ...]


def read_groups(connection: Connection, kind: GroupKind, n: int) -> Iterator[GroupEvidence]:
    """Evidence about groups of one kind, those in most graphs first; groups without a feature are left out.

    Args:
        connection: to a results file.
        kind: a kind of `circuits`, hyperedge, or mlp: the features of an MLP layer by value of a metadata column.
        n: so many at most.
    """
    wanted: dict[str, Any] = {"n": n}
    if kind == "mlp":
        for layer, column, value, n_graphs, n_members in connection.execute(MLPS_SQL, wanted).fetchall():
            of = {"layer": layer, "by_column": column, "by_value": value, "n": N_MEMBERS}
            found = connection.execute(MLP_MEMBERS_SQL, of).fetchall()
            where = f"p.{quoted(column)}::VARCHAR = $value", {"value": value}
            yield _evidence(
                connection, found, where, target_kind="component", target_id=f"MLP{layer} {column}={value}",
                layer=layer, kind=kind, n_graphs=n_graphs, n_members=n_members,
            )  # fmt: skip
    elif kind == "hyperedge":
        for hyperedge_id, support, size in connection.execute(HYPEREDGES_SQL, wanted).fetchall():
            found = connection.execute(HYPEREDGE_MEMBERS_SQL, {"id": hyperedge_id, "n": N_MEMBERS}).fetchall()
            yield _evidence(
                connection, found, ("true", {}), target_kind="group", target_id=f"hyperedge feature/{hyperedge_id}",
                layer=None, kind=kind, n_graphs=support, n_members=size,
            )  # fmt: skip
    else:
        rows = connection.execute(CIRCUITS_SQL, wanted | {"kind": kind}).fetchall()
        for circuit_id, _, column, value, _method, n_graphs, n_members in rows:
            found = connection.execute(CIRCUIT_MEMBERS_SQL, {"id": circuit_id, "n": N_MEMBERS}).fetchall()
            if found:
                yield _evidence(
                    connection, found, _graphs_of(kind, circuit_id, column, value), target_kind="group",
                    target_id=circuit_id, layer=None, kind=kind, n_graphs=n_graphs, n_members=n_members,
                )  # fmt: skip


Where = tuple[str, Mapping[str, Any]]
"""A condition on graphs and prompts, and its parameters."""


def _graphs_of(kind: GroupKind, circuit_id: str, column: str | None, value: str | None) -> Where:
    if kind == "graph_cluster":
        sql = "held.graph_id IN (SELECT graph_id FROM circuit_graphs WHERE circuit_id = $circuit_id)"
        return sql, {"circuit_id": circuit_id}
    if column is None:
        return "true", {}
    return f"p.{quoted(column)}::VARCHAR = $value", {"value": value}


def _evidence(
    connection: Connection, found: Sequence[tuple[Any, ...]], where: Where, *, target_kind: str, target_id: str,
    layer: int | None, kind: GroupKind, n_graphs: int | None, n_members: int,
) -> GroupEvidence:  # fmt: skip
    members = tuple(Member(layer=row[0], feature=row[1], frequency=row[2], influence=row[3]) for row in found)
    keys = {"layers": [one.layer for one in members], "features": [one.feature for one in members]}
    return GroupEvidence(
        target_kind=target_kind,
        target_id=target_id,
        layer=layer,
        kind=kind,
        n_graphs=n_graphs,
        n_members=n_members,
        members=members,
        prompts=_prompts(connection, keys, where),
        promoted=_promoted(connection, keys, members),
    )


def _prompts(connection: Connection, keys: Mapping[str, Any], where: Where) -> tuple[JointPrompt, ...]:
    condition, parameters = where
    rows = connection.execute(
        PROMPTS_SQL.format(where=condition), {**keys, **parameters, "n": N_TRIED * N_PROMPTS}
    ).fetchall()
    chosen: dict[tuple[str, ...], JointPrompt] = {}
    for prompt_id, tokens, next_token, n_members, _ in rows:
        if example_split(prompt_id) == "explain" and len(chosen) < N_PROMPTS:
            prompt = JointPrompt(
                document_id=prompt_id, split="explain", tokens=tuple(tokens), next_token=next_token,
                n_members=n_members,
            )  # fmt: skip
            chosen.setdefault(prompt.tokens, prompt)
    return tuple(chosen.values())


def _promoted(
    connection: Connection, keys: Mapping[str, Any], members: Sequence[Member]
) -> tuple[tuple[str, float], ...]:
    weight: dict[FeatureKey, float] = {(one.layer, one.feature): one.frequency or 0.0 for one in members}
    sums: dict[str, float] = defaultdict(float)
    for layer, feature, tokens, logits in connection.execute(PROMOTED_SQL, dict(keys)).fetchall():
        for token, logit in zip(tokens or (), logits or (), strict=True):
            sums[token] += weight[layer, feature] * logit
    return tuple(sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:N_PROMOTED])
