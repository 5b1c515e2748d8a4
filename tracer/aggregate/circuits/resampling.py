"""Bootstrap resamples whose randomness comes from names, and how well clusters are found again in them."""

import hashlib

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tracer.aggregate.incidence import Floats, Ints

N_SEEDS = 2**31 - 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """Random numbers that depend on nothing but the seed and the names."""
    digest = hashlib.sha256(":".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def seed_of(seed: int, *names: str | int) -> int:
    """The same for libraries that want a number."""
    return int(generator(seed, *names).integers(N_SEEDS))


def multiplicities(n_drawn_from: int, n_resamples: int, seed: int, name: str) -> Ints:
    """How often each of `n_drawn_from` is drawn, with replacement, in each resample, [n_resamples, n_drawn_from]."""
    rows = [
        np.bincount(generator(seed, name, idx).integers(n_drawn_from, size=n_drawn_from), minlength=n_drawn_from)
        for idx in range(n_resamples if n_drawn_from else 0)
    ]
    return np.array(rows, dtype=np.int64).reshape(len(rows), n_drawn_from)


def best_jaccard(label: Ints, other: Ints) -> Floats:
    """For each cluster of `label` the Jaccard similarity of the most similar cluster of `other`, [n_clusters].

    Hennig, "Cluster-wise assessment of cluster stability" (2007): 0.75 and more is a stable cluster, 0.85 a very
    stable one, 0.5 and less one that dissolves.

    Args:
        label: the cluster of each item, from 0; -1 for none.
        other: the same for another clustering of the same items.
    """
    n_clusters, n_others = int(label.max(initial=-1)) + 1, int(other.max(initial=-1)) + 1
    if n_clusters == 0 or n_others == 0:
        return np.zeros(n_clusters)
    inside = (label >= 0) & (other >= 0)
    ones = np.ones(int(inside.sum()))
    both = sparse.coo_array((ones, (label[inside], other[inside])), shape=(n_clusters, n_others)).tocsr().tocoo()
    sizes, other_sizes = np.bincount(label[label >= 0]), np.bincount(other[other >= 0])
    jaccard = both.data / (sizes[both.row] + other_sizes[both.col] - both.data)
    best = np.zeros(n_clusters)
    np.maximum.at(best, both.row, jaccard)
    return best


def set_jaccard(members: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> float:
    """Jaccard similarity of two sets given as flags; two empty ones are equal."""
    either = int((members | others).sum())
    return float((members & others).sum() / either) if either else 1.0


def in_order_of_size(label: Ints, names: np.ndarray, min_members: int) -> Ints:
    """Renumber clusters by size, the largest first, ties by a hash of their members; too small ones become -1."""
    ranked = []
    for cluster in np.unique(label[label >= 0]).tolist():
        members = np.sort(names[label == cluster])
        if len(members) >= min_members:
            digest = hashlib.sha256("\n".join(members.tolist()).encode()).hexdigest()
            ranked.append((-len(members), digest, cluster))
    numbered = np.full(int(label.max(initial=-1)) + 2, -1, np.int64)
    for number, (_, _, cluster) in enumerate(sorted(ranked)):
        numbered[cluster] = number
    return numbered[label]


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """Rows scaled to length 1; empty ones stay empty, and entries of 0 stay entries."""
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    scale = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    scaled = matrix.copy()
    scaled.data = matrix.data * np.repeat(scale, np.diff(matrix.indptr))
    return scaled


def similarity_to_centre(rows: sparse.csr_array, label: Ints) -> Floats:
    """Cosine similarity of each item's row to the mean of its cluster's unit rows, [n_items]; NaN in no cluster."""
    rows, n_clusters = unit_rows(rows), int(label.max(initial=-1)) + 1
    similarity = np.full(len(label), np.nan)
    inside = np.flatnonzero(label >= 0)
    if n_clusters:
        places = (label[inside], inside)
        member = sparse.csr_array((np.ones(len(inside)), places), shape=(n_clusters, len(label)))
        centres = unit_rows(sparse.csr_array(member @ rows))
        similarity[inside] = np.asarray(rows[inside].multiply(centres[label[inside]]).sum(axis=1)).ravel()
    return similarity
