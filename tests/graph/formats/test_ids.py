"""Names of nodes: Cantor's pairing, and names of three numbers."""

from hypothesis import given
from hypothesis import strategies as st

from tests.graph.formats.graphs import graph_with_features
from tracer.graph.formats.ids import cantor, feature_id, feature_of_id, layer_number, names_of, uncantor

NUMBERS = st.integers(0, 10**9)


def test_the_pairing_goes_along_the_diagonals():
    assert [cantor(layer, feature) for layer, feature in [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]] == [
        *range(6)
    ]
    assert cantor(25, 16383) == 16408 * 16409 // 2 + 16383


@given(layer=NUMBERS, feature=NUMBERS)
def test_the_pairing_can_be_undone(layer, feature):
    assert uncantor(cantor(layer, feature)) == (layer, feature)


@given(number=st.integers(0, 10**30))
def test_every_number_is_a_pairing(number):
    assert cantor(*uncantor(number)) == number


@given(place=st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_a_features_name_says_where_it_is(place):
    assert feature_of_id(feature_id(*place)) == place


def test_other_names_and_layers_are_no_numbers():
    assert [
        feature_of_id(name) for name in ("E_1_2", "1_2", "1_err_2", "1_2_3_4", "-1_2_3", "", "9" * 30 + "_1_1")
    ] == [None] * 7
    assert [layer_number(layer) for layer in ("E", "E1", "", "-1", "1.0", "99999", -1)] == [None] * 7
    assert [layer_number(layer) for layer in ("0", 25, "26")] == [0, 25, 26]


@given(
    features=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=30, unique=True
    )
)
def test_no_two_nodes_have_one_name(features):
    graph = graph_with_features([list(place) for place in features])
    names = names_of(graph)
    assert len({name.node_id for name in names}) == graph.layout.n_nodes
    errors = {name.js_id for name in names if name.feature == -1}
    assert len(errors) == 12
    assert not errors & {name.js_id for name in names if name.feature != -1}
    assert not any("," in name.node_id or "supernode-" in name.node_id for name in names)
