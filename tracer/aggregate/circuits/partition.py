"""Clusters of graphs by weighted feature sets; how many there are is decided by stability.

A graph is the square root of its features' influences, scaled to length 1 (Hellinger's transform: influence counts,
and one strong feature does not drown the rest). Graphs are placed on the leading singular axes of that matrix, scaled
to length 1 again, and parted by k-means (Ng, Jordan and Weiss 2002), with twice as many axes as clusters. Whichever k
has the largest `sum over clusters of (Jaccard - 0.75)` over bootstrap resamples is taken (axes and centres are made
from the resample alone, then all graphs assigned): 0.75 is where Hennig (2007) calls a cluster stable, so a cluster
counts for k by as much as it is more than stable, and one that dissolves counts against it. Where no k has a positive
sum there are no clusters. Then the stability is measured once more, on resamples that had no part in the choice.

Axes are held as combinations of graphs, `R^T A`, and found from the graphs' inner products `R R^T`: there are far fewer
graphs than features, and graphs are placed by `R (R^T A)`, some axes at a time, without the axes being held.

Why so: measured on 2,048 graphs of the demo model's 13 tasks, by the adjusted Rand index of clusters and tasks. The
tasks have no part in clustering, but the method was chosen by this figure on this corpus.
* Louvain communities of nearest neighbours in full feature space: 0.66 at best. k-means there: 0.6 to 0.8, in local
  optima (stability 0.7). HDBSCAN: 0.4 to 0.8, with tenths of the graphs in no cluster.
* This: 0.90 with 11 clusters, stability 0.92; on halves of the graphs 0.84 to 0.91. With as many axes as
  clusters 0.78, half as many again 0.82, three times 0.92; the bound 0.6 to 0.85 in place of 0.75: 0.82 to 0.90;
  presence or influence in place of its root: 0.88, 0.90.
* Inverse graph frequency as a weight: 0.54, since it lifts the words of single prompts above what a task shares.

Graphs that share nothing with one another are equally far apart, and rounding would say which centre is nearest, or
which of two axes is left out. So graphs and first centres are told apart by ten-thousandths (`_untied`), and the same
rows give the same clusters and stabilities wherever, and with however many threads, they are computed.

`python -m tests.benchmarks.demo_circuits` repeats what is used.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import sparse
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import ThreadpoolController

from tracer.aggregate.circuits.resampling import best_jaccard, generator, multiplicities, seed_of, unit_rows
from tracer.aggregate.incidence import Floats, Ints
from tracer.aggregate.tasks import TaskMap

STABLE = 0.75
AXES_PER_CLUSTER = 2
N_SEARCH_RESAMPLES = 12
"""Resamples of the choice of k, of which all candidates have `N_FIRST` and the `N_SECOND` best of those have all."""
N_FIRST = 4
N_SECOND = 4
N_STARTS, N_STARTS_OF_RESAMPLE = 6, 2
GROWTH = 1.12
"""Step between the candidates for k where it is more than 1."""
DENSE_GRAPHS = 1_000
"""Up to so many graphs, or three times the axes, their inner products are decomposed as a dense matrix."""
AXES_AT_ONCE = 16
TOLERANCE = 1e-6
UNTYING = 1e-4
"""What ties are decided by: far more than rounding, far less than what is measured."""
LEAST_LENGTH = 1e-3
"""A graph of which the axes hold less (a millionth of its influence) is not placed: that is the solver's tolerance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Centres of clusters: `axes` [n_axes, n_features] and `centres` [n_clusters, n_axes], each of length 1."""

    axes: Floats
    centres: Floats

    def assign(self, rows: sparse.csr_array) -> tuple[Ints, Floats]:
        """The nearest centre of each graph and the cosine similarity to it; -1 and NaN without any known feature.

        Args:
            rows: graphs as `hellinger_rows` gives them, [n_graphs, n_features].
        """
        return nearest(np.asarray(rows @ self.axes.T), self.centres)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stable:
    """A partition with the stability of each of its clusters, [n_clusters], over further resamples."""

    partition: Partition
    stability: Floats


def hellinger_rows(influence: sparse.csr_array) -> sparse.csr_array:
    """Square roots of the size of influences, each graph scaled to length 1, [n_graphs, n_features]."""
    rows = influence.copy()
    rows.data = np.sqrt(np.abs(rows.data))
    return unit_rows(rows)


def find_partition(
    rows: sparse.csr_array, *, max_clusters: int, min_members: int, n_resamples: int, seed: int, run: TaskMap
) -> Stable | None:
    """The most stable partition of the graphs; None where no structure is stable.

    Args:
        rows: graphs as `hellinger_rows` gives them, none empty, in an order of their own, [n_graphs, n_features].
        max_clusters: most clusters.
        min_members: fewest graphs per cluster on average.
        n_resamples: resamples that measure the stability of what is chosen.
        seed: of axes, starts and resamples.
        run: spreads the search and its resamples.
    """
    most = min(max_clusters, rows.shape[0] // max(min_members, 2), min(rows.shape) // AXES_PER_CLUSTER)
    if most < 2:
        return None
    combinations = leading_axes(rows, most * AXES_PER_CLUSTER, seed)
    placed = on_axes(rows, combinations)
    numbers = list(candidates(most))
    slowest_first = numbers[::-1]
    centres = dict(zip(slowest_first, run(_parted, (placed, seed), slowest_first), strict=True))
    labels = {k: nearest(placed[:, : k * AXES_PER_CLUSTER], centres[k])[0] for k in numbers}
    drawn = list(multiplicities(rows.shape[0], N_SEARCH_RESAMPLES, seed, "search"))
    found = _found_again(rows, labels, numbers, drawn[:N_FIRST], seed, run)
    promising = sorted(numbers, key=lambda k: (-_beyond_stable(found[k]), k))[:N_SECOND]
    more = _found_again(rows, labels, promising, drawn[N_FIRST:], seed, run)
    totals = {k: _beyond_stable(np.concatenate([found[k], more[k]])) for k in promising}
    best = min(totals, key=lambda k: (-totals[k], k))
    if totals[best] <= 0:
        return None
    axes = np.asarray(rows.T @ combinations[:, : best * AXES_PER_CLUSTER]).T
    drawn = list(multiplicities(rows.shape[0], n_resamples, seed, "measure"))
    stability = _found_again(rows, labels, [best], drawn, seed, run)[best].mean(axis=0)
    return Stable(partition=Partition(axes=axes, centres=centres[best]), stability=stability)


def candidates(most: int) -> Iterator[int]:
    """Numbers of clusters that are tried, ascending."""
    n_clusters = 2
    while n_clusters <= most:
        yield n_clusters
        n_clusters = max(n_clusters + 1, int(n_clusters * GROWTH))


def leading_axes(rows: sparse.csr_array, n_axes: int, seed: int, multiplicity: Ints | None = None) -> Floats:
    """Combinations of graphs `A` [n_graphs, n_axes]: the columns of `R^T A` are the leading right singular vectors of
    the graphs' matrix, each graph taken `multiplicity` [n_graphs] times. Columns beyond the rank are 0.
    """
    n_graphs = rows.shape[0]
    root = np.sqrt(_untied(n_graphs, multiplicity, seed))
    columns = rows.T  # as it lies in memory: products with it take half the time of those with its own rows
    if n_graphs <= max(DENSE_GRAPHS, 3 * n_axes):
        products = (rows @ columns).toarray() * root[:, None] * root
        square, left = eigh(products, subset_by_index=[n_graphs - n_axes, n_graphs - 1])
    else:
        products = LinearOperator(
            (n_graphs, n_graphs), matvec=lambda v: root * (rows @ (columns @ (root * v.ravel()))), dtype=np.float64
        )
        start = generator(seed, "axes").standard_normal(n_graphs)
        square, left = eigsh(products, n_axes, which="LA", v0=start, tol=TOLERANCE)
    square, left = square[::-1], left[:, ::-1]
    is_there = square > 1e-10 * max(square[0], 1e-300)
    return np.where(is_there, root[:, None] * left / np.sqrt(np.where(is_there, square, 1.0)), 0.0)


def on_axes(rows: sparse.csr_array, combinations: Floats) -> Floats:
    """Graphs on the axes `R^T A`, [n_graphs, n_axes]."""
    columns = rows.T
    starts = range(0, combinations.shape[1], AXES_AT_ONCE)
    return np.hstack([rows @ (columns @ combinations[:, start : start + AXES_AT_ONCE]) for start in starts])


def nearest(placed: Floats, centres: Floats) -> tuple[Ints, Floats]:
    """The centre nearest to each graph by angle and the cosine similarity to it; -1 and NaN where all axes are 0."""
    unit, is_placed = _unit(placed)
    similarity = unit @ centres.T
    label = np.where(is_placed, similarity.argmax(axis=1), -1)
    return label, np.where(is_placed, similarity.max(axis=1), np.nan)


def part(placed: Floats, n_clusters: int, seed: int, multiplicity: Ints | None = None) -> Floats:
    """Centres by k-means of the graphs on the leading axes, [n_clusters, n_axes used].

    Args:
        placed: graphs on the axes, [n_graphs, n_axes].
        n_clusters: as many as that.
        seed: of the starts.
        multiplicity: how often each graph counts, [n_graphs]; none given: once, and with more starts.
    """
    unit, _ = _unit(placed[:, : n_clusters * AXES_PER_CLUSTER])
    drawn = np.arange(len(unit)) if multiplicity is None else np.flatnonzero(multiplicity)
    weights = _untied(len(unit), multiplicity, seed)[drawn]
    means = KMeans(
        n_clusters,
        init=lambda graphs, n, random_state: _starts(graphs, n, weights, random_state),
        n_init=N_STARTS if multiplicity is None else N_STARTS_OF_RESAMPLE,
        random_state=seed_of(seed, "starts", n_clusters),
    )
    with _threads().limit(limits=1):  # many small fits: threads would wait for one another, and tasks run side by side
        means.fit(unit[drawn], sample_weight=weights)
    return _unit(means.cluster_centers_)[0]


def _starts(graphs: Floats, n_clusters: int, weights: Floats, random_state: np.random.RandomState) -> Floats:
    """Graphs far from one another to start from, each drawn a little closer to the middle than the one before."""
    starts, _ = kmeans_plusplus(graphs, n_clusters, sample_weight=weights, random_state=random_state)
    return np.asarray(starts) * (1.0 - UNTYING * np.arange(n_clusters) / n_clusters)[:, None]


def _untied(n_graphs: int, multiplicity: Ints | None, seed: int) -> Floats:
    """How often graphs are taken, [n_graphs], each a little more often than that, and no two equally so."""
    taken = np.ones(n_graphs) if multiplicity is None else multiplicity
    return taken * (1.0 + UNTYING * generator(seed, "untied").random(n_graphs))


def _unit(places: Floats) -> tuple[Floats, np.ndarray]:
    norms = np.sqrt((places * places).sum(axis=1))
    is_placed = norms > LEAST_LENGTH
    return places / np.where(is_placed, norms, 1.0)[:, None], is_placed


@cache
def _threads() -> ThreadpoolController:
    """What bounds the threads of numeric libraries; looking for them takes longer than a small fit."""
    return ThreadpoolController()


def _parted(shared: tuple[Floats, int], n_clusters: int) -> Floats:
    placed, seed = shared
    return part(placed, n_clusters, seed)


def _beyond_stable(jaccard: Floats) -> float:
    """`jaccard` [n_resamples, n_clusters]."""
    return float((jaccard.mean(axis=0) - STABLE).sum())


def _found_again(
    rows: sparse.csr_array, labels: dict[int, Ints], numbers: Sequence[int], drawn: list[Ints], seed: int, run: TaskMap
) -> dict[int, Floats]:
    """For each number of clusters how well each is found again in each resample, [n_resamples, n_clusters]."""
    found = list(run(_resampled, (rows, {k: labels[k] for k in numbers}, seed), drawn))
    return {k: np.array([jaccard[k] for jaccard in found]).reshape(len(found), k) for k in numbers}


def _resampled(shared: tuple[sparse.csr_array, dict[int, Ints], int], drawn: Ints) -> dict[int, Floats]:
    """The Jaccard similarity of each cluster to the most similar one of a resample, by number of clusters."""
    rows, labels, seed = shared
    placed = on_axes(rows, leading_axes(rows, max(labels) * AXES_PER_CLUSTER, seed, drawn))
    found = {}
    for n_clusters, label in labels.items():
        other, _ = nearest(placed[:, : n_clusters * AXES_PER_CLUSTER], part(placed, n_clusters, seed, drawn))
        jaccard = best_jaccard(label, other)
        found[n_clusters] = np.pad(jaccard, (0, n_clusters - len(jaccard)))
    return found
