"""No text is both explained from and scored on, whatever a harvest holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.autointerp.explaining import choose_texts
from tracer.autointerp.scoring.asking import choose_scoring_texts
from tracer.autointerp.splits import check_apart, held_out, part
from tracer.autointerp.texts import FeatureText
from tracer.errors import DataError
from tracer.harvest.examples import example_split

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "Dallas", "."]), min_size=1, max_size=4).map(tuple)


@st.composite
def texts(draw: st.DrawFn) -> list[FeatureText]:
    """Texts of few documents and few words, so that both often recur, with the split that the document's hash gives."""
    found = []
    for _ in range(draw(st.integers(0, 40))):
        document_id, tokens = f"d{draw(st.integers(0, 12))}", draw(WORDS)
        activations = tuple(draw(st.sampled_from([0.0, 0.0, 1.0, 2.5])) for _ in tokens)
        kind = draw(st.sampled_from(["top", "quantile"] if any(activations) else ["random", "near_miss"]))
        found.append(
            FeatureText(
                document_id=document_id, split=example_split(document_id), kind=kind, tokens=tokens,
                activations=activations, peak_idx=0,
            )
        )  # fmt: skip
    return found


@given(texts(), st.integers(1, 20), st.integers(0, 3), st.integers(1, 10), st.integers(0, 5))
def test_what_a_label_is_made_from_and_what_it_is_tested_on_share_no_document_and_no_text(
    found: list[FeatureText], n_explained: int, draw: int, n_scored: int, seed: int
) -> None:
    explaining, _ = part(found)
    seen = choose_texts(explaining, n_explained, draw=draw, seed=seed)
    scored = choose_scoring_texts(held_out(found, seen), n_scored, n_scored, seed)
    used = [*scored.active, *scored.inactive]
    check_apart(seen, used)
    assert not {text.document_id for text in seen} & {text.document_id for text in used}
    assert not {text.tokens for text in seen} & {text.tokens for text in used}
    assert all(text.is_active for text in scored.active)
    assert not any(text.is_active for text in scored.inactive)


@given(texts())
def test_a_document_is_of_one_split_and_a_leak_is_refused(found: list[FeatureText]) -> None:
    explaining, scoring = part(found)
    check_apart(explaining, scoring)
    if scoring:
        with pytest.raises(DataError, match="both explained from and scored on"):
            check_apart([*explaining, scoring[0]], scoring)
