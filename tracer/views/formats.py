"""How figures are written for people: counts, shares, significant digits, chances, spans of time."""

import math

MISSING = "–"
"""Stands where a table holds null: nothing was measured, which is not zero."""


def count(value: int | None) -> str:
    """A whole number with thousands marked: `2,048`."""
    return MISSING if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A share of 1 in per cent to one digit; what is not quite none or all never reads as none or all."""
    if value is None or math.isnan(value):
        return MISSING
    if 0 < value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    return f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """A number to `digits` significant digits, with a true minus sign: `−0.0213`."""
    if value is None or math.isnan(value):
        return MISSING
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4:
        return _scientific(value, digits - 1)
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}".replace("-", "−")


def chance(value: float | None) -> str:
    """A probability to two digits, however small; one that underflows is given as a bound."""
    if value is None or math.isnan(value):
        return MISSING
    if value == 0:
        return "< 1e−300"
    return number(value, 2) if value >= 0.001 else _scientific(value, 0)


def span(seconds: float | None) -> str:
    """A span of time in its two largest units: `2 min 31 s`, `1 h 4 min`, `12.3 s`."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_rest = divmod(minutes, 60)
    return f"{hours} h {minutes_rest} min" if hours else f"{minutes} min {rest} s"


def shorten(text: str, n_characters: int) -> str:
    """The text, or its beginning with an ellipsis if it is longer than `n_characters`."""
    return text if len(text) <= n_characters else text[: max(0, n_characters - 1)].rstrip() + "…"


def _scientific(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")
