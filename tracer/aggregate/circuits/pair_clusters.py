"""Question: which features keep turning up in the same graphs, as groups?

The graph of pairs that share more graphs than the null explains (q <= 0.05, within strata where the run has strata) is
weighted by npmi, and Louvain's method finds its communities. In a resample of graphs, supports are counted anew; what
the null expects follows the new supports, `E' = E (n_a' n_b') / (n_a n_b)` (exact for the closed form of the null but
for the lengths of the graphs, near enough for the saturating one), and p, q and npmi with it. Where resamples are drawn
from a sample of the graphs, they are smaller than the run and find fewer pairs: stability then errs on the low side.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tracer.aggregate.circuits.communities import communities
from tracer.aggregate.circuits.feature_rows import FeatureClusters, stage_feature_clusters
from tracer.aggregate.circuits.resampling import best_jaccard, multiplicities, seed_of, similarity_to_centre
from tracer.aggregate.circuits.samples import WHOLE_RUN, sampled_graphs
from tracer.aggregate.hypergraph.significance import benjamini_hochberg, poisson_above
from tracer.aggregate.incidence import Floats, Incidence, Ints, feature_codes, places_among
from tracer.aggregate.state import SCHEMA
from tracer.aggregate.tasks import TaskMap
from tracer.config import CircuitConfig
from tracer.tables.database import Connection

SIGNIFICANT = 0.05
PAIRS_PER_BLOCK = 4_096
_PAIRS = """
WITH told AS (
    SELECT layer_a, feature_a, layer_b, feature_b, n_a, n_b,
        coalesce(expected_stratified, expected) AS expected,
        coalesce(npmi_stratified, npmi) AS npmi,
        coalesce(q_above_stratified, q_above) AS q
    FROM cooccurrence
)
SELECT *, count(*) OVER () AS n_found FROM told WHERE npmi > 0 AND expected > 0
ORDER BY npmi DESC, layer_a, feature_a, layer_b, feature_b LIMIT ?
"""
_HELD = f"""
SELECT DISTINCT sampled.graph_idx, layer, feature
FROM {SCHEMA}.incidence JOIN {SCHEMA}.graph_numbers USING (graph_idx) JOIN circuit_sample AS sampled USING (graph_id)
WHERE circuit_id = '='
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePairs:
    """Pairs that share more graphs than expected: `first`, `second` [n_pairs] number `features` [n_features, 2].

    `support` [n_features] and `expected` [n_pairs] are over all `n_graphs` graphs; `n_tested` pairs were tested.
    """

    features: Ints
    first: Ints
    second: Ints
    npmi: Floats
    q: Floats
    support: Ints
    expected: Floats
    n_graphs: int
    n_tested: int
    seed: int

    def clusters(self, npmi: Floats, q: Floats) -> Ints:
        """The community of each feature; -1 for none."""
        linked = (q <= SIGNIFICANT) & (npmi > 0)
        weight = np.round(npmi[linked], 9)
        return communities(self.first[linked], self.second[linked], weight, len(self.features), self.seed)

    def rescaled(self, both: Ints, support: Ints, n_graphs: int) -> tuple[Floats, Floats]:
        """npmi and q of the pairs in other graphs, from the counts there."""
        before = self.support[self.first] * self.support[self.second].astype(float)
        after = support[self.first] * support[self.second].astype(float)
        expected = self.expected * after / before * (self.n_graphs / n_graphs)
        q, npmi = np.ones(len(both)), np.zeros(len(both))
        there = (both > 0) & (expected > 0)
        p = poisson_above(both[there], expected[there])
        q[there] = benjamini_hochberg(p, max(self.n_tested, len(p)))
        surprise = -np.log(both[there] / n_graphs)
        lift = np.log(both[there] / expected[there])
        npmi[there] = np.divide(lift, surprise, out=np.zeros(len(lift)), where=surprise > 0)
        return npmi, q


def stage_pair_clusters(
    connection: Connection, *, min_support: int, settings: CircuitConfig, seed: int, run: TaskMap
) -> None:
    """Stage clusters of features by co-occurrence.

    Args:
        connection: the results being built; samples drawn.
        min_support: as `cooccurrence` was made with.
        settings: bounds.
        seed: of Louvain's method and of resamples.
        run: spreads resamples.
    """
    pairs, n_found = _read_pairs(connection, min_support, settings.max_pairs, seed_of(seed, "pairs"))
    label = pairs.clusters(pairs.npmi, pairs.q)
    if label.max(initial=-1) < 0:
        return
    stability = None
    incidence = _read_incidence(connection, pairs.features)
    if incidence.n_graphs > 1 and settings.n_resamples > 0:
        drawn = multiplicities(incidence.n_graphs, settings.n_resamples, seed, "pairs")
        counted = shared_in_resamples(incidence.matrix, pairs.first, pairs.second, drawn)
        supports = drawn @ incidence.matrix
        blocks = list(zip(counted.T, supports, strict=True))
        found = list(run(_found_again, (pairs, label, incidence.n_graphs), blocks))
        stability = np.mean(found, axis=0)
    linked = pairs.q <= SIGNIFICANT
    clusters = FeatureClusters(
        features=pairs.features,
        label=label,
        similarity=similarity_to_centre(_adjacency(pairs, linked), label),
        stability=stability,
    )
    n_pairs = int(linked.sum())
    method = f"Louvain communities of {n_pairs} pairs with q <= {SIGNIFICANT}, weighted by npmi"
    if len(pairs.first) < n_found:
        method += f"; of the {len(pairs.first)} pairs of largest npmi among {n_found}"
    stage_feature_clusters(connection, clusters, kind="feature_cluster", prefix="features", method=method)


def shared_in_resamples(matrix: sparse.csr_array, first: Ints, second: Ints, drawn: Ints) -> Ints:
    """Graphs that hold both features of each pair, counted as often as they were drawn, [n_pairs, n_resamples].

    Args:
        matrix: ones where a graph holds a feature, [n_graphs, n_features].
        first: one feature of each pair, [n_pairs].
        second: the other.
        drawn: how often each graph is drawn, [n_resamples, n_graphs].
    """
    by_feature, times = matrix.T.tocsr().astype(np.int64), np.ascontiguousarray(drawn.T)
    counted = np.zeros((len(first), len(drawn)), np.int64)
    for start in range(0, len(first), PAIRS_PER_BLOCK):
        block = slice(start, start + PAIRS_PER_BLOCK)
        both = by_feature[first[block]].multiply(by_feature[second[block]])
        counted[block] = sparse.csr_array(both) @ times
    return counted


def _adjacency(pairs: FeaturePairs, linked: np.ndarray) -> sparse.csr_array:
    """npmi of linked features, each fully linked with itself, [n_features, n_features]."""
    first, second, npmi = pairs.first[linked], pairs.second[linked], pairs.npmi[linked]
    n_features = len(pairs.features)
    half = sparse.coo_array((npmi, (first, second)), shape=(n_features, n_features))
    return sparse.csr_array(half + half.T + sparse.eye_array(n_features))


def _found_again(shared: tuple[FeaturePairs, Ints, int], counts: tuple[Ints, Ints]) -> Floats:
    pairs, label, n_graphs = shared
    both, support = counts
    return best_jaccard(label, pairs.clusters(*pairs.rescaled(both, support, n_graphs)))


def _read_pairs(connection: Connection, min_support: int, max_pairs: int, seed: int) -> tuple[FeaturePairs, int]:
    """The pairs, and how many there are without the bound."""
    found = connection.execute(_PAIRS, [max_pairs]).fetchnumpy()
    ends = [
        np.column_stack([found[f"layer_{end}"], found[f"feature_{end}"]]).astype(np.int64).reshape(-1, 2)
        for end in ("a", "b")
    ]
    features, number = np.unique(np.concatenate(ends), axis=0, return_inverse=True)
    first, second = np.split(number.ravel(), 2)
    support = np.zeros(len(features), np.int64)
    support[first], support[second] = found["n_a"], found["n_b"]
    sql = "SELECT count(*) FROM features WHERE support >= ?"
    (n_frequent,) = connection.execute(sql, [min_support]).fetchall()[0]
    (n_graphs,) = connection.execute("SELECT count(*) FROM graphs").fetchall()[0]
    pairs = FeaturePairs(
        features=features,
        first=first,
        second=second,
        npmi=np.asarray(found["npmi"], dtype=np.float64),
        q=np.ma.filled(np.ma.asarray(found["q"], dtype=np.float64), 1.0),
        support=support,
        expected=np.asarray(found["expected"], dtype=np.float64),
        n_graphs=n_graphs,
        n_tested=n_frequent * (n_frequent - 1) // 2,
        seed=seed,
    )
    return pairs, int(found["n_found"][0]) if len(first) else 0


def _read_incidence(connection: Connection, features: Ints) -> Incidence:
    graph_ids = sampled_graphs(connection, WHOLE_RUN)
    found = connection.execute(_HELD).fetchnumpy()
    codes = feature_codes(found["layer"], found["feature"])
    column, known = places_among(feature_codes(features[:, 0], features[:, 1]), codes)
    row = np.asarray(found["graph_idx"], dtype=np.int64)
    return Incidence.of(row[known], column[known], (len(graph_ids), len(features)))
