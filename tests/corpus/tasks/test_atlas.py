"""The toy atlas itself: partners, what is held out, its vocabulary, and which words an answer is."""

from random import Random

import pytest

from tracer.corpus.tasks import atlas
from tracer.corpus.tasks import atlas_words as words
from tracer.model.references import resolve
from tracer.model.tokenizer import load_tokenizer

SHIPPED = "package:tracer/model/demo/files/language_model"
HELD_OUT = [name for name, task in atlas.TASKS.items() if task.has_held_out]
COMBINATION = {
    "two_hop_capital": ("city",),
    "two_hop_bird": ("city",),
    "two_hop_region": ("city",),
    "indirect_object": ("first", "second"),
    "greater_than": ("event", "century", "start"),
    "antonym": ("language", "word"),
}
"""The slots whose combination is held out: agreement's nouns whatever their number."""


def combination(prompt: atlas.AtlasPrompt) -> tuple[object, ...]:
    if prompt.task == "agreement":
        return tuple(next(noun for noun in words.NOUNS if prompt.slots[slot] in noun) for slot in ("noun", "attractor"))
    return tuple(prompt.slots[slot] for slot in COMBINATION[prompt.task] if slot in prompt.slots)


def drawn(task: str, n_prompts: int, *, held_out: bool) -> list[atlas.AtlasPrompt]:
    rng = Random(f"{task}-{held_out}")
    return [atlas.draw(atlas.TASKS[task], rng, held_out=held_out) for _ in range(n_prompts)]


@pytest.mark.parametrize("task", list(atlas.TASKS))
@pytest.mark.parametrize("held_out", [False, True])
def test_a_partner_has_the_same_template_and_length_and_another_answer(task: str, held_out: bool) -> None:
    rng = Random(0)
    for prompt in drawn(task, 40, held_out=held_out):
        partner = atlas.partner(prompt, rng)
        assert partner.task == prompt.task
        assert partner.slots["template"] == prompt.slots["template"]
        assert partner.answer != prompt.answer
        assert partner.text != prompt.text
        assert len(partner.text.split()) == len(prompt.text.split())
        assert partner.slots.keys() == prompt.slots.keys()


def differing_words(prompt: atlas.AtlasPrompt, partner: atlas.AtlasPrompt) -> list[tuple[str, str]]:
    pairs = zip(prompt.text.split(), partner.text.split(), strict=True)
    return [(one, other) for one, other in pairs if one != other]


@pytest.mark.parametrize("task", ["two_hop_capital", "indirect_object", "agreement", "pronoun"])
def test_a_partner_differs_in_one_word_where_the_task_allows_it(task: str) -> None:
    for prompt in drawn(task, 40, held_out=True):
        assert len(differing_words(prompt, atlas.partner(prompt, Random(1)))) == 1


def test_partners_of_agreement_and_indirect_object_stay_in_their_split() -> None:
    for task in ("agreement", "indirect_object"):
        seen = {combination(prompt) for prompt in drawn(task, 600, held_out=False)}
        for prompt in drawn(task, 60, held_out=True):
            partner = atlas.partner(prompt, Random(2))
            assert partner.split == "held_out"
            assert combination(partner) not in seen


@pytest.mark.parametrize("task", HELD_OUT)
def test_what_is_held_out_never_occurs_among_the_seen(task: str) -> None:
    seen, held_out = (drawn(task, 600, held_out=split) for split in (False, True))
    assert {prompt.split for prompt in seen} == {"seen"}
    assert {prompt.split for prompt in held_out} == {"held_out"}
    assert not {combination(prompt) for prompt in seen} & {combination(prompt) for prompt in held_out}
    assert not {prompt.text for prompt in seen} & {prompt.text for prompt in held_out}


def test_tasks_that_hold_nothing_out_draw_seen_prompts_when_asked_for_others() -> None:
    for task in set(atlas.TASKS) - set(HELD_OUT):
        assert {prompt.split for prompt in drawn(task, 20, held_out=True)} == {"seen"}


def test_the_vocabulary_is_that_of_the_shipped_tokenizer() -> None:
    ids = load_tokenizer(resolve(SHIPPED)).get_vocab()
    assert sorted(ids, key=ids.__getitem__) == atlas.vocabulary()
    assert len(set(atlas.vocabulary())) == len(atlas.vocabulary())


@pytest.mark.parametrize("task", list(atlas.TASKS))
def test_every_word_of_every_sentence_is_in_the_vocabulary(task: str) -> None:
    known = set(atlas.vocabulary())
    for prompt in [*drawn(task, 100, held_out=False), *drawn(task, 100, held_out=True)]:
        assert {*prompt.text.split(), prompt.answer} <= known


@pytest.mark.parametrize("task", list(atlas.TASKS))
def test_answer_words_follow_from_the_words_before_them(task: str) -> None:
    for prompt in drawn(task, 40, held_out=False):
        sentence = [*prompt.text.split(), prompt.answer]
        places = atlas.answer_word_indices(prompt)
        assert places[-1] == len(sentence) - 1
        if task == "induction":
            assert all(sentence[place] in sentence[:place] for place in places)
            assert all(sentence[place - 1] in sentence[: place - 1] for place in places)
        else:
            assert len(places) == 1


def test_answers_are_true_of_the_atlas() -> None:
    for prompt in drawn("two_hop_capital", 40, held_out=True):
        state = words.STATE_BY_NAME[prompt.slots["state"]]
        assert prompt.slots["city"] in state.cities
        assert prompt.answer == state.capital
        assert prompt.slots["city"] in prompt.text
        assert state.name not in prompt.text
    for prompt in drawn("indirect_object", 40, held_out=False):
        text = prompt.text.split()
        assert text.count(prompt.answer) == 1
        assert text.count(prompt.slots["giver"]) == 2
    for prompt in drawn("greater_than", 40, held_out=False):
        assert prompt.slots["start"] < prompt.answer
