"""The kernel against dense encoding, for every nonlinearity and every size of tile."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.harvest.kernel import encode_sparsely
from tracer.model.nonlinearity import JumpReLU, ReLU, TopK
from tracer.model.transcoders import LayerTranscoder

N_FEATURES, D_MODEL = 11, 4


def transcoder(nonlinearity, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return LayerTranscoder(
        W_enc=torch.randn(N_FEATURES, D_MODEL, generator=draws),
        b_enc=torch.randn(N_FEATURES, generator=draws),
        nonlinearity=nonlinearity,
        W_dec=torch.zeros(N_FEATURES, 1, D_MODEL),
        b_dec=torch.zeros(D_MODEL),
    )


NONLINEARITIES = st.one_of(
    st.just(ReLU()),
    st.floats(-1, 1).map(lambda value: JumpReLU(torch.linspace(value, 1, N_FEATURES))),
    st.builds(TopK, k=st.integers(1, N_FEATURES), rectify=st.sampled_from(["no", "before", "after"])),
)


@settings(max_examples=60, deadline=None)
@given(NONLINEARITIES, st.integers(0, 6), st.integers(1, 40), st.integers(0, 99))
def test_the_same_activations_as_dense_encoding_in_order(nonlinearity, n_places, tile_floats, seed):
    layer = transcoder(nonlinearity, seed)
    reads = torch.randn(n_places, D_MODEL, generator=torch.Generator().manual_seed(seed + 1))
    found = encode_sparsely(layer, reads, tile_floats=tile_floats)
    expected = layer.encode(reads)
    feature, place = expected.T.nonzero(as_tuple=True)
    assert found.feature.tolist() == feature.tolist()
    assert found.place.tolist() == place.tolist()
    torch.testing.assert_close(found.value, expected[place, feature], rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, N_FEATURES), st.sampled_from(["no", "before", "after"]), st.integers(1, 40), st.integers(0, 99)
)  # fmt: skip
def test_of_equal_values_top_k_takes_those_of_lower_features_whatever_the_tiles(k, rectify, tile_floats, seed):
    draws = torch.Generator().manual_seed(seed)
    layer = transcoder(TopK(k=k, rectify=rectify))
    layer.W_enc.copy_(torch.randint(-1, 2, layer.W_enc.shape, generator=draws))
    layer.b_enc.zero_()
    reads = torch.randint(-1, 2, (5, D_MODEL), generator=draws).float()
    found = encode_sparsely(layer, reads, tile_floats=tile_floats)
    expected = {}
    for place, values in enumerate((reads @ layer.W_enc.T).tolist()):
        for feature in sorted(range(N_FEATURES), key=lambda feature: -values[feature])[:k]:
            if values[feature] > 0 or (rectify == "no" and values[feature]):
                expected[feature, place] = values[feature]
    places = list(zip(found.feature.tolist(), found.place.tolist(), strict=True))
    assert dict(zip(places, found.value.tolist(), strict=True)) == expected
    assert places == sorted(expected)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-3), ("bfloat16", 2e-2)])
def test_lower_precision_rounds_factors_alone(precision, tolerance):
    layer, reads = transcoder(ReLU()), torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(3))
    found, exact = encode_sparsely(layer, reads, precision), layer.encode(reads)
    dense = torch.zeros_like(exact)
    dense[found.place, found.feature] = found.value
    torch.testing.assert_close(dense, exact, rtol=0, atol=tolerance * 8)
    if precision == "bfloat16":
        rounded = (reads.bfloat16().float() @ layer.W_enc.bfloat16().float().T + layer.b_enc).relu()
        torch.testing.assert_close(dense, rounded, rtol=1e-5, atol=1e-6)
