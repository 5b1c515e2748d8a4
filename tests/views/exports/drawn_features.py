"""Random features for the tests of what is written to files."""

import math
from collections import Counter

from hypothesis import strategies as st

from tracer.graph.formats.ids import cantor
from tracer.views.exports.feature_files import (
    ExampleGroup,
    ExampleRecord,
    FeatureFile,
    FeatureRecord,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.lists(NUMBER, max_size=5).map(tuple)
TEXTS = st.lists(TEXT, max_size=4).map(tuple)


def counted(activations: list[float]) -> list[tuple[bool, int, int]]:
    """Activations in bins, as `feature_activation_hist` has them."""
    places = ((value < 0, math.floor(4 * math.log2(abs(value)))) for value in activations if value)
    return [(*place, n) for place, n in sorted(Counter(places).items())]


@st.composite
def examples(draw: st.DrawFn) -> ExampleRecord:
    """A window."""
    tokens = draw(st.lists(TEXT, min_size=1, max_size=5))
    return ExampleRecord(
        tokens_acts_list=tuple(draw(NUMBER) for _ in tokens),
        train_token_ind=draw(st.integers(0, len(tokens) - 1)),
        is_repeated_datapoint=draw(st.booleans()),
        tokens=tuple(tokens),
    )


@st.composite
def records(draw: st.DrawFn, index: int) -> FeatureRecord:
    """A record with some of its fields."""
    groups = st.builds(ExampleGroup, quantile_name=TEXT, examples=st.lists(examples(), max_size=3).map(tuple))
    return FeatureRecord(
        transcoder_id=draw(st.none() | TEXT),
        index=index,
        examples_quantiles=tuple(draw(st.lists(groups, max_size=2))),
        top_logits=draw(st.none() | TEXTS),
        bottom_logits=draw(st.none() | TEXTS),
        act_min=draw(st.none() | NUMBER),
        act_max=draw(st.none() | NUMBER),
        quantile_values=draw(st.none() | NUMBERS),
        histogram=draw(st.none() | NUMBERS),
        activation_frequency=draw(st.none() | NUMBER),
    )


@st.composite
def layers(draw: st.DrawFn) -> list[list[FeatureFile]]:
    """Features of some layers, in ascending order with gaps."""
    return [
        [
            FeatureFile(layer, feature, draw(records(cantor(layer, feature))))
            for feature in sorted(draw(st.sets(st.integers(0, 12), max_size=3)))
        ]
        for layer in range(draw(st.integers(0, 3)))
    ]
