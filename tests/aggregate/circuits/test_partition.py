"""The partition of graphs does not turn on the last bits of what it is given."""

import numpy as np
import pytest
from scipy import sparse

from tracer.aggregate.circuits.partition import Stable, find_partition, hellinger_rows
from tracer.aggregate.tasks import in_process

N_KINDS, N_GRAPHS_OF_KIND, N_ALONE = 8, 12, 15


def kinds_that_share_nothing(seed: int) -> sparse.csr_array:
    """Influences of graphs of 8 kinds, each with features of its own, and of graphs alike to no other: wherever a
    start of k-means falls, graphs of the other kinds are equally far from it.
    """
    chance = np.random.default_rng(seed)
    n_kind, n_alone = 20, 6
    kinds = [
        (chance.random((N_GRAPHS_OF_KIND, n_kind)) < 0.4) * chance.lognormal(size=(N_GRAPHS_OF_KIND, n_kind))
        for _ in range(N_KINDS)
    ]
    alone = [np.ones((1, n_alone)) for _ in range(N_ALONE)]
    return sparse.csr_array(sparse.block_diag([*kinds, *alone], format="csr"))


def found_among(influence: sparse.csr_array) -> Stable:
    found = find_partition(
        hellinger_rows(influence), max_clusters=12, min_members=5, n_resamples=10, seed=0, run=in_process
    )
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [1e-15, 1e-7])
def test_graphs_that_are_equally_far_apart_are_parted_the_same_whatever_the_rounding(seed, noise):
    influence = kinds_that_share_nothing(seed)
    rounded = influence.copy()
    rounded.data *= 1.0 + noise * np.random.default_rng(seed).standard_normal(len(rounded.data))
    one, other = found_among(influence), found_among(rounded)
    np.testing.assert_array_equal(one.stability, other.stability)
    np.testing.assert_array_equal(
        one.partition.assign(hellinger_rows(influence))[0], other.partition.assign(hellinger_rows(rounded))[0]
    )
