"""Counts, histograms and token counts against a count by plain Python; the counts of two halves add up to the whole."""

import math
from collections import Counter, defaultdict
from functools import partial

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harvest.random_firings import N_IGNORED, PlainPrompt, as_firings, prompt_lists, token_name
from tracer.harvest import counts

N_CONTEXT = 32
quickly = settings(max_examples=40, deadline=None)


def context(prompt: PlainPrompt, pos: int) -> set[int]:
    """Distinct tokens among those that a rule about the context looks at."""
    return set(prompt.token_ids[max(0, pos - N_CONTEXT) : pos])


def places_of_tokens(prompt: PlainPrompt, pos: int) -> list[tuple[str, int]]:
    """(kind, token_id) of everything that the token columns count at one position."""
    ids = prompt.token_ids
    found = [("n_at", ids[pos])]
    found += [("n_before", ids[pos - 1])] if pos > 0 else []
    found += [("n_after", ids[pos + 1])] if pos + 1 < len(ids) else []
    return found + [("n_context", token_id) for token_id in context(prompt, pos)]


@given(prompt_lists())
@quickly
def test_feature_counts_equal_those_counted_one_by_one(prompts: list[PlainPrompt]) -> None:
    values, firing_prompts = defaultdict(list), defaultdict(set)
    for prompt in prompts:
        for (layer, _, feature), value in prompt.firings.items():
            values[layer, feature].append(value)
            firing_prompts[layer, feature].add(prompt.prompt_id)
    found = counts.feature_counts(as_firings(prompts)).to_dicts()
    assert [(row["layer"], row["feature"]) for row in found] == sorted(values)
    for row in found:
        own = values[row["layer"], row["feature"]]
        assert row["n_firings"] == len(own)
        assert row["n_prompts"] == len(firing_prompts[row["layer"], row["feature"]])
        assert row["activation_max"] == max(own)
        assert row["activation_sum"] == pytest.approx(math.fsum(own), abs=1e-9)
        assert row["activation_square_sum"] == pytest.approx(math.fsum(value**2 for value in own))


@given(prompt_lists())
@quickly
def test_the_histogram_puts_each_activation_into_the_bin_that_holds_it(prompts: list[PlainPrompt]) -> None:
    expected = Counter(
        (layer, feature, value < 0, math.floor(math.log2(abs(value)) * counts.BINS_PER_OCTAVE))
        for prompt in prompts
        for (layer, _, feature), value in prompt.firings.items()
    )
    found = counts.activation_histogram(as_firings(prompts)).rows()
    assert {tuple(row[:4]): row[4] for row in found} == dict(expected)
    assert [row[:4] for row in found] == sorted(expected)


@pytest.mark.parametrize("exponent", [-31, -29, -1, 0, 3, 40])
def test_a_power_of_two_opens_its_bin(exponent: int) -> None:
    prompt = PlainPrompt(prompt_id="a", token_ids=(0, 1), firings={(0, 1, 0): 2.0**exponent})
    (row,) = counts.activation_histogram(as_firings([prompt])).to_dicts()
    assert row["bin"] == 4 * exponent


@given(prompt_lists())
@quickly
def test_token_counts_equal_those_counted_one_by_one(prompts: list[PlainPrompt]) -> None:
    expected = Counter(
        place
        for prompt in prompts
        for pos in range(N_IGNORED, len(prompt.token_ids))
        for place in places_of_tokens(prompt, pos)
        if place[0] != "n_after"
    )
    found = counts.token_counts(as_firings(prompts), N_CONTEXT).to_dicts()
    names = ("n_at", "n_before", "n_context")
    assert Counter({(name, row["token_id"]): row[name] for row in found for name in names if row[name]}) == expected
    assert [row["token_id"] for row in found] == sorted({token_id for _, token_id in expected})
    assert all(row["token"] == token_name(row["token_id"]) for row in found)


@given(prompt_lists())
@quickly
def test_feature_tokens_equal_those_counted_one_by_one(prompts: list[PlainPrompt]) -> None:
    expected = Counter(
        (layer, feature, *place)
        for prompt in prompts
        for layer, pos, feature in prompt.firings
        for place in places_of_tokens(prompt, pos)
    )
    found = counts.feature_tokens(as_firings(prompts), N_CONTEXT).to_dicts()
    names = ("n_at", "n_before", "n_after", "n_context")
    assert expected == Counter({
        (row["layer"], row["feature"], name, row["token_id"]): row[name] for row in found for name in names if row[name]
    })
    keys = [(row["layer"], row["feature"], row["token_id"]) for row in found]
    assert keys == sorted(set(keys))


def test_the_context_ends_after_its_declared_length() -> None:
    n_tokens = N_CONTEXT + 2
    token_ids = (0, *[1] * (n_tokens - 1))
    places = {"near": n_tokens - 2, "far": n_tokens - 1}
    for name, pos in places.items():
        prompt = PlainPrompt(prompt_id="a", token_ids=token_ids, firings={(0, pos, 0): 1.0})
        rows = counts.feature_tokens(as_firings([prompt]), N_CONTEXT).to_dicts()
        assert any(row["token_id"] == 0 and row["n_context"] == 1 for row in rows) == (name == "near")


@given(prompt_lists(), st.integers(0, 6))
@quickly
def test_the_counts_of_two_halves_add_up_to_the_counts_of_both(prompts: list[PlainPrompt], cut: int) -> None:
    keys = {
        counts.feature_counts: ["layer", "feature"],
        counts.activation_histogram: ["layer", "feature", "is_negative", "bin"],
        partial(counts.token_counts, n_context=N_CONTEXT): ["token_id", "token"],
        partial(counts.feature_tokens, n_context=N_CONTEXT): ["layer", "feature", "token_id", "token"],
    }
    for count, key in keys.items():
        whole = count(as_firings(prompts)).drop("activation_sum", "activation_square_sum", strict=False)
        halves = [count(as_firings(half)) for half in (prompts[:cut], prompts[cut:])]
        largest = pl.col("^activation_max$").max()
        merged = pl.concat(halves).group_by(key).agg(pl.col("^n.*$").sum(), largest).sort(key)
        assert merged.select(whole.columns).rows() == whole.sort(key).rows()
