"""Question: which features have the same role, that is, the same sources and the same targets?

A feature's profile holds the weight of each of its edges, signs kept, summed over the graphs that
keep it: half of it is what acts on the feature (features, tokens), half what it acts on (features, logits), each half
scaled to length 1, since weights on pre-activations and on logits are not of one size. Features whose profiles have a
cosine similarity of 0.5 or more (`communities.alike`) are linked, and Louvain's method finds communities. Within one
consensus circuit, with its edges and its graphs alone, such communities are supernodes.

Resamples are honest: graphs are drawn with replacement, weights summed anew over the edges that they keep, profiles,
links and communities made anew.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tracer.aggregate.circuits.communities import alike, communities
from tracer.aggregate.circuits.consensus import edge_columns
from tracer.aggregate.circuits.feature_rows import FeatureClusters, stage_feature_clusters
from tracer.aggregate.circuits.resampling import (
    best_jaccard,
    multiplicities,
    seed_of,
    similarity_to_centre,
    unit_rows,
)
from tracer.aggregate.circuits.samples import WHOLE_RUN, Edges, EdgesInGraphs, edges_in_graphs, sampled_graphs
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.tasks import TaskMap
from tracer.config import CircuitConfig
from tracer.tables.database import Connection

METHOD = "Louvain communities of profiles with cosine similarity >= 0.5, at most 10 neighbours each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """Edges from which profiles are made: the numbers of their ends among `n_ends`, [n_edges] each; the first
    `n_features` ends are features. `seed` is Louvain's.
    """

    source: Ints
    target: Ints
    n_features: int
    n_ends: int
    seed: int

    def profiles(self, weight: Floats) -> sparse.csr_array:
        """Profiles [n_features, 2 n_ends] from the edges' weights [n_edges]: sources first, then targets.

        Dividing by the graphs that hold a feature would change nothing: each half is scaled.
        """
        halves = []
        for end, other in ((self.target, self.source), (self.source, self.target)):
            inside = np.flatnonzero(end < self.n_features)
            places = (end[inside], other[inside])
            shape = (self.n_features, self.n_ends)
            halves.append(unit_rows(sparse.csr_array(sparse.coo_array((weight[inside], places), shape=shape))))
        rows = sparse.csr_array(sparse.hstack(halves))
        rows.eliminate_zeros()
        return unit_rows(rows)

    def clusters(self, rows: sparse.csr_array) -> Ints:
        """The community of each feature by its profile; -1 for none."""
        return communities(*alike(rows), self.n_features, self.seed)


def profile_clusters(
    roles: Roles, weight: Floats, resampled: list[Floats], features: Ints, run: TaskMap
) -> FeatureClusters:
    """Communities of profiles, with their stability.

    Args:
        roles: the edges.
        weight: their weights, summed over graphs, [n_edges].
        resampled: the same in each resample; none: no stability.
        features: (layer, feature) of each feature, [n_features, 2].
        run: spreads resamples.
    """
    rows = roles.profiles(weight)
    label = roles.clusters(rows)
    stability = None
    if resampled:
        stability = np.mean(list(run(_found_again, (roles, label), resampled)), axis=0)
    similarity = similarity_to_centre(rows, label)
    return FeatureClusters(features=features, label=label, similarity=similarity, stability=stability)


def stage_profile_clusters(
    connection: Connection, edges: Edges, *, settings: CircuitConfig, seed: int, run: TaskMap
) -> None:
    """Stage clusters of features by profile over the whole run."""
    degree = np.bincount(np.concatenate([edges.source, edges.target]), np.tile(edges.support, 2), len(edges.ends))
    chosen = np.sort(np.argsort(-degree[: edges.n_features], kind="stable")[: settings.max_features])
    method = METHOD
    if len(chosen) < edges.n_features:
        method += f"; of {len(chosen)} of {edges.n_features} features, those with the most edges over graphs"
    columns = np.arange(len(edges.source))
    roles, columns = _roles(edges, columns, chosen, seed_of(seed, "profiles"))
    resampled = _resampled(connection, edges, columns, WHOLE_RUN, settings, seed)
    found = profile_clusters(roles, edges.weight_sum[columns], resampled, edges.ends[chosen, 1:], run)
    stage_feature_clusters(connection, found, kind="profile_cluster", prefix="profiles", method=method)


def stage_supernodes(
    connection: Connection, edges: Edges, circuit_id: str, *, settings: CircuitConfig, seed: int, run: TaskMap
) -> None:
    """Stage the supernodes of a staged consensus circuit; its weights are summed over its sampled graphs."""
    columns = edge_columns(connection, circuit_id)
    ends = np.unique(np.concatenate([edges.source[columns], edges.target[columns]]))
    chosen = ends[ends < edges.n_features]
    if len(chosen) < 2:
        return
    roles, columns = _roles(edges, columns, chosen, seed_of(seed, circuit_id, "supernodes"))
    held, drawn = _held(connection, edges, circuit_id, settings, seed)
    weight = held.weight[:, columns].T.tocsr()
    everything = weight @ np.ones(weight.shape[1])
    resampled = [weight @ times.astype(float) for times in drawn]
    found = profile_clusters(roles, everything, resampled, edges.ends[chosen, 1:], run)
    stage_feature_clusters(
        connection,
        found,
        kind="supernode",
        prefix=f"{circuit_id}/supernode",
        method=METHOD,
        in_value=circuit_id,
    )


def _roles(edges: Edges, columns: Ints, chosen: Ints, seed: int) -> tuple[Roles, Ints]:
    """Edges among `columns` that touch a chosen feature, chosen features numbered first; and their columns."""
    others = np.setdiff1d(np.arange(len(edges.ends)), chosen)
    number = np.empty(len(edges.ends), np.int64)
    number[np.concatenate([chosen, others])] = np.arange(len(edges.ends))
    source, target = number[edges.source[columns]], number[edges.target[columns]]
    touching = (source < len(chosen)) | (target < len(chosen))
    roles = Roles(
        source=source[touching], target=target[touching], n_features=len(chosen), n_ends=len(edges.ends), seed=seed
    )
    return roles, columns[touching]


def _held(
    connection: Connection, edges: Edges, circuit_id: str, settings: CircuitConfig, seed: int
) -> tuple[EdgesInGraphs, Ints]:
    graph_ids = sampled_graphs(connection, circuit_id)
    held = edges_in_graphs(connection, circuit_id, len(graph_ids), len(edges.source))
    n_resamples = settings.n_resamples if len(graph_ids) > 1 else 0
    return held, multiplicities(len(graph_ids), n_resamples, seed, f"profiles {circuit_id}")


def _resampled(
    connection: Connection, edges: Edges, columns: Ints, circuit_id: str, settings: CircuitConfig, seed: int
) -> list[Floats]:
    held, drawn = _held(connection, edges, circuit_id, settings, seed)
    weight = held.weight[:, columns].T.tocsr()
    return [weight @ times.astype(float) for times in drawn]


def _found_again(shared: tuple[Roles, Ints], weight: Floats) -> Floats:
    roles, label = shared
    return best_jaccard(label, roles.clusters(roles.profiles(weight)))
