"""How figures are written."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.views import formats


def read(text: str) -> float:
    return float(text.replace("−", "-").replace(",", ""))


@given(st.floats(min_value=-1e9, max_value=1e9, allow_subnormal=False))
def test_number_keeps_three_significant_digits(value):
    assert read(formats.number(value)) == pytest.approx(value, rel=5.001e-3)


@given(st.floats(min_value=1e-300, max_value=1.0))
def test_chance_keeps_its_order_of_magnitude_however_small(value):
    assert read(formats.chance(value)) == pytest.approx(value, rel=0.5)


@given(st.floats(min_value=0.0, max_value=1.0))
def test_share_is_right_to_a_tenth_of_a_per_cent_and_claims_all_or_none_only_when_exact(value):
    text = formats.share(value)
    assert read(text.strip("<>% ")) == pytest.approx(100 * value, abs=0.1)
    assert (text == "100.0 %") == (value == 1.0)
    assert (text == "0.0 %") == (value == 0.0)


@pytest.mark.parametrize("figure", [formats.count, formats.share, formats.number, formats.chance, formats.span])
def test_null_is_written_as_missing_and_never_as_zero(figure):
    assert figure(None) == formats.MISSING


@pytest.mark.parametrize("figure", [formats.share, formats.number, formats.chance])
def test_not_a_number_is_written_as_missing(figure):
    assert figure(math.nan) == formats.MISSING


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.count(2048), "2,048"),
        (formats.number(-0.02134), "−0.0213"),
        (formats.number(1234.5), "1,234"),
        (formats.number(0.0), "0"),
        (formats.number(0.0000123), "1.23e−5"),
        (formats.chance(0.0), "< 1e−300"),
        (formats.chance(3.2e-12), "3e−12"),
        (formats.chance(0.05), "0.050"),
        (formats.span(12.34), "12.3 s"),
        (formats.span(151.2), "2 min 31 s"),
        (formats.span(59.97), "60.0 s"),
        (formats.span(3840.0), "1 h 4 min"),
        (formats.shorten("abcdef", 4), "abc…"),
        (formats.shorten("abcd", 4), "abcd"),
    ],
)
def test_figures_are_written_as_people_read_them(written, expected):
    assert written == expected
