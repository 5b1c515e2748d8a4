"""Top windows against a choice by plain Python; the top of two halves' tops is the top of both."""

from collections import defaultdict

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harvest.random_firings import PlainPrompt, as_firings, prompt_lists, token_name
from tracer.harvest import examples
from tracer.harvest.examples import top_examples

quickly = settings(max_examples=40, deadline=None)


def best_places(prompts: list[PlainPrompt], n_examples: int) -> dict[tuple[int, int, int], tuple[str, int, float]]:
    """(layer, feature, rank) -> (prompt_id, pos, activation)."""
    peaks: dict[tuple[int, int], list[tuple[float, str, int]]] = defaultdict(list)
    for prompt in prompts:
        strongest: dict[tuple[int, int], tuple[float, int]] = {}
        for (layer, pos, feature), value in prompt.firings.items():
            strongest[layer, feature] = min(strongest.get((layer, feature), (-value, pos)), (-value, pos))
        for key, (negative, pos) in strongest.items():
            peaks[key].append((negative, prompt.prompt_id, pos))
    return {
        (*key, rank): (prompt_id, pos, -negative)
        for key, found in peaks.items()
        for rank, (negative, prompt_id, pos) in enumerate(sorted(found)[:n_examples])
    }


@given(prompt_lists(), st.integers(1, 4))
@quickly
def test_examples_are_the_strongest_position_of_the_strongest_prompts(prompts: list[PlainPrompt], n: int) -> None:
    found = top_examples(as_firings(prompts), n, " ").to_dicts()
    places = {
        (row["layer"], row["feature"], row["rank"]): (row["prompt_id"], row["pos"], row["activation"]) for row in found
    }
    assert len(places) == len(found)
    assert places == best_places(prompts, n)


@given(prompt_lists(max_tokens=30))
@quickly
def test_windows_hold_the_tokens_and_activations_around_the_peak(prompts: list[PlainPrompt]) -> None:
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    for row in top_examples(as_firings(prompts), 3, " ").to_dicts():
        prompt, peak = by_id[row["prompt_id"]], row["pos"]
        names = [token_name(token_id) for token_id in prompt.token_ids]
        start, stop = max(0, peak - examples.N_BEFORE), min(len(names), peak + examples.N_AFTER + 1)
        assert row["window_start"] == start
        assert row["window_tokens"] == names[start:stop]
        assert row["window_activations"] == [
            prompt.firings.get((row["layer"], pos, row["feature"]), 0.0) for pos in range(start, stop)
        ]
        assert row["token"] == names[peak]
        near = names[max(0, peak - 5) : peak] + [f"<<{names[peak]}>>"] + names[peak + 1 : peak + 2]
        assert row["context"] == " ".join(near)


@given(prompt_lists(), st.integers(0, 6), st.integers(1, 3))
@quickly
def test_the_top_of_two_halves_tops_is_the_top_of_both(prompts: list[PlainPrompt], cut: int, n: int) -> None:
    halves = [top_examples(as_firings(half), n, " ") for half in (prompts[:cut], prompts[cut:])]
    order, descending = ["layer", "feature", "activation", "prompt_id"], [False, False, True, False]
    merged = (
        pl
        .concat(halves)
        .sort(order, descending=descending)
        .with_columns(pl.int_range(pl.len()).over("layer", "feature").cast(pl.Int64).alias("rank"))
        .filter(pl.col("rank") < n)
    )
    assert merged.rows() == top_examples(as_firings(prompts), n, " ").rows()


def test_the_split_is_a_property_of_the_prompt_and_both_halves_occur() -> None:
    splits = [examples.example_split(f"prompt {idx}") for idx in range(200)]
    assert 60 < splits.count("explain") < 140
    assert set(splits) == {"explain", "score"}
    prompts = [
        PlainPrompt(prompt_id=f"prompt {idx}", token_ids=(0, 1), firings={(0, 1, 0): 1.0, (1, 1, 2): 2.0})
        for idx in range(20)
    ]
    for row in top_examples(as_firings(prompts), 25, "").to_dicts():
        assert row["split"] == examples.example_split(row["prompt_id"])
