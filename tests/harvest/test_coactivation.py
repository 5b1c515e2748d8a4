"""Co-activation against dense products, whatever the batches; the null's expectations against a direct fit."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracer.aggregate.coactivation import MEASURES, coactivation_rows
from tracer.aggregate.hypergraph.chances import fit_null
from tracer.aggregate.hypergraph.pairs import Pairs
from tracer.aggregate.hypergraph.significance import pair_measures
from tracer.harvest.coactivation import CoactivationCounts
from tracer.harvest.windows import PADDING, Accumulator, LayerFirings, WindowBatch
from tracer.tables.harvest_feature_tables import COACTIVATION_LENGTHS, COACTIVATION_PAIRS, FEATURE_COACTIVATION

N_FEATURES = (5, 7)
CHOSEN = [(1, 6), (0, 1), (0, 4), (1, 0), (1, 3)]


def random_batches(seed: int, sizes: list[int], n_pos: int = 6, density: float = 0.2) -> list[WindowBatch]:
    """Batches of windows of documents of one to four windows each, in order; some positions cannot fire."""
    generator = np.random.default_rng(seed)
    documents = np.sort(generator.integers(0, max(1, sum(sizes) // 2), sum(sizes)))
    batches = []
    for start, stop in pairwise(np.cumsum([0, *sizes])):
        n_windows = stop - start
        eligible = torch.from_numpy(generator.random((n_windows, n_pos)) < 0.8)
        layers = []
        for layer, n_features in enumerate(N_FEATURES):
            held = torch.from_numpy(generator.random((n_features, n_windows, n_pos)) < density) & eligible
            feature, row, pos = held.nonzero(as_tuple=True)
            layers.append(LayerFirings(layer=layer, feature=feature, row=row, pos=pos, value=torch.ones(len(pos))))
        batches.append(
            WindowBatch(
                token_ids=torch.where(eligible, 1, PADDING),
                eligible=eligible,
                document=torch.from_numpy(documents[start:stop]),
                start=torch.arange(n_windows),
                layers=tuple(layers),
            )
        )
    return batches


def dense(batches: list[WindowBatch]) -> tuple[np.ndarray, np.ndarray]:
    """[position, feature of any layer] over eligible positions, and the document of each position."""
    rows, documents = [], []
    for batch in batches:
        n_windows, n_pos = batch.eligible.shape
        held = np.zeros((n_windows, n_pos, sum(N_FEATURES)), np.int64)
        for firings in batch.layers:
            held[firings.row, firings.pos, firings.feature + sum(N_FEATURES[: firings.layer])] = 1
        rows.append(held[batch.eligible.numpy()])
        documents.append(np.repeat(batch.document.numpy(), batch.eligible.sum(1).numpy()))
    return np.concatenate(rows), np.concatenate(documents)


def grains(batches: list[WindowBatch]) -> dict[str, np.ndarray]:
    """[place, feature] of both grains."""
    held, document = dense(batches)
    every = sorted({int(key) for batch in batches for key in batch.document})
    return {"token": held, "document": np.array([held[document == key].any(0) for key in every]).astype(np.int64)}


def counted(batches: list[WindowBatch]) -> dict[str, pl.DataFrame]:
    counts = CoactivationCounts(CHOSEN, N_FEATURES)
    assert isinstance(counts, Accumulator)
    for batch in batches:
        counts.add(batch)
    return counts.tables()


@given(seed=st.integers(0, 2**31), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_pairs_and_lengths_equal_dense_products_whatever_the_batches(seed: int, sizes: list[int]) -> None:
    batches = random_batches(seed, sizes)
    found = counted(batches)
    chosen = sorted(CHOSEN)
    columns = [feature + sum(N_FEATURES[:layer]) for layer, feature in chosen]
    pairs, lengths = [], []
    for grain, held in grains(batches).items():
        shared = held[:, columns].T @ held[:, columns]
        pairs += [
            (grain, *chosen[a], *chosen[b], shared[a, b])
            for a in range(len(chosen)) for b in range(a, len(chosen)) if shared[a, b]
        ]  # fmt: skip
        lengths += [(grain, *row) for row in zip(*np.unique(held.sum(1), return_counts=True), strict=True)]
    assert found["coactivation_pairs"].rows() == pairs
    assert found["coactivation_lengths"].rows() == lengths


@given(seed=st.integers(0, 2**31), order=st.permutations(range(3)))
def test_shards_merge_to_the_whole_in_any_order(seed: int, order: list[int]) -> None:
    batches = random_batches(seed, [3, 3, 3])
    for place, batch in enumerate(batches):
        batch.document[:] += 100 * place  # a document lies in one shard
    whole = counted(batches)
    parts = [counted([batches[place]]) for place in order]
    for name, value in (("coactivation_pairs", "support"), ("coactivation_lengths", "n")):
        stacked = pl.concat([part[name] for part in parts])
        keys = [column for column in stacked.columns if column != value]
        merged = stacked.group_by(keys).agg(pl.col(value).sum())
        assert_frame_equal(merged.sort(keys), whole[name].sort(keys))


@pytest.mark.parametrize("density", [0.03, 0.4])
def test_measures_are_those_of_circuits_with_a_place_for_a_graph(density: float) -> None:
    batches = random_batches(3, [40, 60], density=density)
    found, every = counted(batches), [(layer, feature) for layer, n in enumerate(N_FEATURES) for feature in range(n)]
    held = grains(batches)
    features = pl.DataFrame({
        "layer": [layer for layer, _ in every],
        "feature": [feature for _, feature in every],
        "n_firings": held["token"].sum(0),
        "n_documents": held["document"].sum(0),
        "is_dense": [pair == (0, 1) for pair in every],
    })
    rows = coactivation_rows(found["coactivation_pairs"], found["coactivation_lengths"], features, 2)
    assert rows.columns == FEATURE_COACTIVATION.column_names()
    assert rows.rows() == rows.sort("grain", "layer_a", "feature_a", "layer_b", "feature_b").rows()
    assert rows.height > 2
    for grain, matrix in held.items():
        of_grain = rows.filter(pl.col("grain") == grain)
        place = {pair: idx for idx, pair in enumerate(every)}
        first = np.array([place[pair] for pair in of_grain.select("layer_a", "feature_a").iter_rows()])
        second = np.array([place[pair] for pair in of_grain.select("layer_b", "feature_b").iter_rows()])
        pairs = Pairs(first=first, second=second, support=of_grain["support"].to_numpy())
        expected = pair_measures(pairs, support=matrix.sum(0), length=matrix.sum(1), min_support=10**9)
        for name in ("n_a", "n_b", "jaccard", *MEASURES[:5]):
            assert of_grain[name].to_list() == pytest.approx(expected[name].tolist(), rel=1e-9), name
        assert of_grain["q_above"].is_between(of_grain["p_above"], 1.0).all()
        a_is, b_is = ((pl.col(f"layer_{end}") == 0) & (pl.col(f"feature_{end}") == 1) for end in "ab")
        assert of_grain["has_dense"].equals(of_grain.select((a_is | b_is).alias("has_dense"))["has_dense"])


def test_a_null_fitted_to_counted_lengths_is_that_of_all_lengths() -> None:
    length = np.random.default_rng(0).integers(0, 9, 500)
    support = np.bincount(np.random.default_rng(1).integers(0, 50, length.sum()))
    value, times = np.unique(length, return_counts=True)
    n_a, n_b = support[:-1], support[1:]
    expected = fit_null(support, length).expected_pairs(n_a, n_b)
    assert fit_null(support, value, times=times).expected_pairs(n_a, n_b) == pytest.approx(expected, rel=1e-12)


def test_nothing_that_fires_gives_empty_tables() -> None:
    found = counted(random_batches(0, [2], density=0.0))
    assert found["coactivation_pairs"].schema.names() == COACTIVATION_PAIRS.column_names()
    assert found["coactivation_pairs"].is_empty()
    assert found["coactivation_lengths"].schema.names() == COACTIVATION_LENGTHS.column_names()
    features = pl.DataFrame({"layer": [0], "feature": [0], "n_firings": [0], "n_documents": [0], "is_dense": [False]})
    rows = coactivation_rows(found["coactivation_pairs"], found["coactivation_lengths"], features, 1)
    assert rows.is_empty()
    assert rows.columns == FEATURE_COACTIVATION.column_names()
