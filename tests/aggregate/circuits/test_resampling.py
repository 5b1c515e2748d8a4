"""Similarity of clusterings, names of clusters, seeds by name, counts in resamples, rows on axes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from tracer.aggregate.circuits.communities import ALIKE, alike
from tracer.aggregate.circuits.pair_clusters import shared_in_resamples
from tracer.aggregate.circuits.partition import find_partition, hellinger_rows
from tracer.aggregate.circuits.resampling import best_jaccard, generator, in_order_of_size, multiplicities
from tracer.aggregate.incidence import Ints
from tracer.aggregate.tasks import in_process

labels = hnp.arrays(np.int64, 12, elements=st.integers(-1, 3))


@given(label=labels, other=labels)
def test_best_jaccard_is_that_of_sets(label: Ints, other: Ints) -> None:
    def members(of: Ints, cluster: int) -> set[int]:
        return set(np.flatnonzero(of == cluster).tolist())

    for cluster, best in enumerate(best_jaccard(label, other)):
        one = members(label, cluster)
        sets = [members(other, number) for number in range(other.max(initial=-1) + 1)]
        assert np.isclose(best, max((len(one & s) / len(one | s) for s in sets if one | s), default=0.0))


def test_clusters_are_numbered_by_size_whatever_their_numbers_were() -> None:
    names = np.array(list("abcdefg"))
    label = np.array([2, 0, 0, 0, 1, 2, -1])
    assert in_order_of_size(label, names, 2).tolist() == [1, 0, 0, 0, -1, 1, -1]
    swapped = np.array([0, 1, 1, 1, 2, 0, -1])
    assert in_order_of_size(swapped, names, 2).tolist() == [1, 0, 0, 0, -1, 1, -1]


def test_random_numbers_come_from_names() -> None:
    first = generator(0, "a", 1).integers(2**31, size=3).tolist()
    assert first == generator(0, "a", 1).integers(2**31, size=3).tolist()
    assert first != generator(1, "a", 1).integers(2**31, size=3).tolist()
    drawn = multiplicities(50, 3, 0, "x")
    assert drawn.sum(axis=1).tolist() == [50, 50, 50]
    assert multiplicities(0, 3, 0, "x").shape == (0, 0)


@given(held=hnp.arrays(np.int64, (7, 4), elements=st.integers(0, 1)))
def test_counts_in_resamples_are_those_of_repeated_graphs(held: Ints) -> None:
    drawn = multiplicities(7, 2, 0, "x")
    first, second = np.triu_indices(4, 1)
    counted = shared_in_resamples(sparse.csr_array(held), first, second, drawn)
    for place, times in enumerate(drawn):
        repeated = np.repeat(held, times, axis=0)
        assert counted[:, place].tolist() == (repeated[:, first] & repeated[:, second]).sum(axis=0).tolist()


@given(rows=hnp.arrays(np.int64, (6, 3), elements=st.integers(-2, 2)))
def test_alike_are_the_pairs_above_the_threshold(rows: Ints) -> None:
    first, second, value = alike(sparse.csr_array(rows.astype(float)))
    found = dict(zip(zip(first.tolist(), second.tolist(), strict=True), value.tolist(), strict=True))
    norms = np.linalg.norm(rows, axis=1)
    for a in range(6):
        for b in range(a + 1, 6):
            cosine = rows[a] @ rows[b] / (norms[a] * norms[b]) if norms[a] * norms[b] else 0.0
            if abs(cosine - ALIKE) > 1e-6:
                assert ((a, b) in found) == (cosine > ALIKE)


def test_the_number_of_clusters_follows_what_is_planted() -> None:
    for n_communities in (2, 6):
        rng = np.random.default_rng(n_communities)
        community = rng.integers(n_communities, size=150)
        held = rng.random((150, 8 * n_communities)) < np.where(
            np.arange(8 * n_communities)[None, :] // 8 == community[:, None], 0.6, 0.02
        )
        held[np.arange(150), community * 8] = True
        found = find_partition(
            hellinger_rows(sparse.csr_array(held.astype(float))),
            max_clusters=8,
            min_members=5,
            n_resamples=4,
            seed=0,
            run=in_process,
        )
        assert found is not None
        assert len(found.stability) == n_communities
