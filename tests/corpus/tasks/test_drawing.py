"""Drawing distinct rows: how many, in pairs, and when there are no more."""

import pytest

from tracer.corpus.tasks.drawing import TaskOptions, TaskPrompt, draw_rows
from tracer.errors import DataError


def draw_from(n_texts):
    def draw_pair(rng):
        prompts = [
            TaskPrompt(task="t", text=f"{i}", answer=f"a{i}", split=None, slots={"i": f"{i}"})
            for i in rng.sample(range(n_texts), 2)
        ]
        return prompts[0], lambda: prompts[1]

    return draw_pair


def test_every_prompt_of_a_small_space_is_found():
    rows = list(draw_rows("toy", TaskOptions(n_prompts=150), draw_from(150)))
    assert sorted(int(row["text"]) for row in rows) == list(range(150))


def test_too_many_prompts_are_refused_with_the_number_that_exists():
    with pytest.raises(DataError) as caught:
        list(draw_rows("toy", TaskOptions(n_prompts=151), draw_from(150)))
    assert caught.value.found == "150 distinct prompts"
    assert caught.value.expected == "151"


def test_partners_follow_each_other_under_one_pair_id_and_count_as_prompts():
    rows = list(draw_rows("toy", TaskOptions(n_prompts=40, pairs=True), draw_from(100)))
    assert len(rows) == len({row["text"] for row in rows}) == 40
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["pair_id"] == second["pair_id"] is not None
        assert (first["counterfactual_answer"], second["counterfactual_answer"]) == (second["answer"], first["answer"])
    assert len({row["pair_id"] for row in rows}) == 20


def test_without_pairs_there_is_a_counterfactual_answer_but_no_pair_id():
    rows = list(draw_rows("toy", TaskOptions(n_prompts=5), draw_from(100)))
    assert all(row["pair_id"] is None and row["counterfactual_answer"] != row["answer"] for row in rows)


def test_an_odd_number_of_paired_prompts_is_refused():
    with pytest.raises(DataError, match="an even number"):
        list(draw_rows("toy", TaskOptions(n_prompts=5, pairs=True), draw_from(100)))


def test_fewer_prompts_of_a_seed_are_the_first_of_more_and_seeds_differ():
    few, many, other = (
        [row["text"] for row in draw_rows("toy", TaskOptions(n_prompts=n, seed=seed), draw_from(1_000))]
        for n, seed in ((10, 0), (50, 0), (10, 1))
    )
    assert few == many[:10]
    assert few != other
