"""Graphs that hold parts of sets, by cell, against a count of them."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.aggregate.hypergraph.part_counts import CellBits, part_counts
from tracer.aggregate.hypergraph.ranked import Ranks
from tracer.aggregate.incidence import Incidence


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n_graphs=st.sampled_from([1, 63, 64, 65, 300]), n_cells=st.integers(1, 5))
def test_counts_are_those_of_single_graphs(seed: int, n_graphs: int, n_cells: int) -> None:
    rng = np.random.default_rng(seed)
    held = rng.random((n_graphs, 9)) < 0.6
    cell = rng.integers(n_cells, size=n_graphs)  # a cell may be empty
    incidence = Incidence.of(*np.nonzero(held), held.shape)
    ranks = Ranks.of(incidence, 0, among=np.arange(9))
    chosen = np.sort(rng.choice(len(ranks.item), min(5, len(ranks.item)), replace=False))
    bits = CellBits.of(incidence, ranks, chosen, cell, n_cells)
    members = np.array(list(combinations(chosen.tolist(), 3)), dtype=np.int64)
    if len(members) == 0:
        return
    for size in (1, 2):
        found = part_counts(bits, members, size)
        for positions, place in found.place.items():
            whole = held[:, ranks.item[members[:, positions]]].all(axis=2)
            expected = [np.bincount(cell[of_set], minlength=n_cells) for of_set in whole.T]
            np.testing.assert_array_equal(found.counts[place], expected)
