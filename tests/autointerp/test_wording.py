"""Labels are short, show white space, and lose tokens rather than letters."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from tracer.autointerp.labeller import RuleKind
from tracer.autointerp.wording import describe, write_label

TOKENS = st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=9)


@given(
    kind=st.sampled_from(get_args(RuleKind)),
    rule_tokens=TOKENS,
    said=st.lists(st.text(min_size=1, max_size=60), max_size=5),
)
def test_a_label_has_at_most_80_characters_and_names_both_sides(
    kind: RuleKind, rule_tokens: list[str], said: list[str]
) -> None:
    for label_kind, promoted in (("both", said), ("unclear", [])):
        label = write_label(label_kind, (kind, rule_tokens), promoted)  # type: ignore[arg-type]
        assert len(label) <= 80
        assert not set(label) & set("\n\t\r")
        assert ("says " in label) or not promoted


def test_tokens_left_out_are_counted() -> None:
    label = write_label(
        "both", ("before", [" Dallas", " Houston", " Plano", " Waco", " Lubbock", " Tyler"]), [" Austin", " Texas"]
    )
    assert label == "says ·Austin, ·Texas ← after ·Dallas, ·Houston, ·Plano, ·Waco +2 more"


def test_where_the_room_ends_input_tokens_go_first() -> None:
    long_names = [f" {letter * 12}" for letter in "abcd"]
    label = write_label("both", ("at", long_names), [" Austin", " Texas", " Plano"])
    assert label == "says ·Austin, ·Texas, ·Plano ← on ·aaaaaaaaaaaa, ·bbbbbbbbbbbb +2 more"


def test_white_space_is_shown_and_long_tokens_are_cut() -> None:
    assert write_label("input", ("at", ["\n\n", "\t", "x" * 40]), []) == f"on ⏎⏎, →, {'x' * 19}…"


def test_a_description_gives_figures_or_says_that_there_are_none() -> None:
    assert describe(None, []) == "No set of tokens tells when it fires. No promoted token stands out."
    text = describe(("context", [f"t{place}" for place in range(20)], 0.5, 0.25), ["a"])
    assert text.startswith("Fires anywhere after the tokens t0, t1,")
    assert text.endswith("t11, ... (precision 0.50, recall 0.25). Raises the logits of a.")
