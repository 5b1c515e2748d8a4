"""The three generators: their rows, counterfactuals, determinism, and tokenizers that cannot say them."""

import itertools
from random import Random

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tracer.corpus.tasks import GENERATORS, atlas, generate
from tracer.corpus.tokens import encode
from tracer.errors import ConfigError, DataError


def rows_of(name, tokenizer, **options):
    return list(generate(name, tokenizer, options))


@pytest.fixture(scope="module")
def letter_tokenizer() -> PreTrainedTokenizerFast:
    """One token per character, so that no word is a single one."""
    letters = {letter: idx for idx, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("name", list(GENERATORS))
@pytest.mark.parametrize("pairs", [False, True])
def test_a_generator_gives_as_many_distinct_prompts_as_asked_the_same_every_time(demo_tokenizer, name, pairs):
    rows = rows_of(name, demo_tokenizer, n_prompts=60, pairs=pairs)
    assert len({row["text"] for row in rows}) == len(rows) == 60
    assert rows == rows_of(name, demo_tokenizer, n_prompts=60, pairs=pairs)
    assert rows != rows_of(name, demo_tokenizer, n_prompts=60, pairs=pairs, seed=1)
    assert all(row["answer"] != row["counterfactual_answer"] and row["template"] for row in rows)


def test_options_that_are_unknown_or_of_the_wrong_type_are_config_errors(demo_tokenizer):
    with pytest.raises(
        ConfigError, match=r"corpus\.options\.n_promts: found an unknown option; expected one of n_prompts"
    ):
        generate("atlas", demo_tokenizer, {"n_promts": 3})
    with pytest.raises(ConfigError, match=r"corpus\.options\.split"):
        generate("atlas", demo_tokenizer, {"split": "train"})
    with pytest.raises(ConfigError, match=r"corpus\.options\.n_prompts"):
        generate("ioi", demo_tokenizer, {"n_prompts": 0})
    with pytest.raises(ConfigError, match=r"corpus\.options\.tasks"):
        generate("ioi", demo_tokenizer, {"tasks": ["two_hop_bird"]})


@pytest.mark.parametrize("split", ["seen", "held_out", "both"])
def test_atlas_prompts_and_their_partners_are_of_the_split_asked_for(demo_tokenizer, split):
    rows = rows_of("atlas", demo_tokenizer, n_prompts=80, split=split)
    found = {row["split"] for row in rows}
    assert found == ({"seen", "held_out"} if split == "both" else {split})


def test_atlas_rows_carry_their_slots_and_answers_that_the_vocabulary_knows(demo_tokenizer):
    rows = rows_of("atlas", demo_tokenizer, n_prompts=400, split="both", pairs=True)
    assert {row["task"] for row in rows} == set(atlas.TASKS)
    for row in rows:
        text, answer = row["template"].format(**row).split("|")
        assert (row["text"], row["answer"]) == (text, answer)
        assert demo_tokenizer.unk_token_id not in encode(f"{text} {answer}", demo_tokenizer)


def test_atlas_tasks_can_be_chosen_and_wrong_ones_are_refused(demo_tokenizer):
    rows = rows_of("atlas", demo_tokenizer, n_prompts=40, tasks=["order", "two_hop_bird"], split="seen")
    assert {row["task"] for row in rows} <= {"order", "two_hop_bird"}
    with pytest.raises(DataError, match="'three_hop'; expected one of two_hop_capital"):
        rows_of("atlas", demo_tokenizer, tasks=["three_hop"])
    with pytest.raises(DataError, match="'order'; expected one of .*which hold something out"):
        rows_of("atlas", demo_tokenizer, tasks=["order"], split="held_out")


@pytest.mark.parametrize(("split", "n_exist"), [("seen", 26 * 4), ("held_out", 26 * 2), ("both", 26 * 6)])
def test_the_two_hop_bird_task_is_found_whole_and_no_larger(demo_tokenizer, split, n_exist):
    options = {"tasks": ["two_hop_bird"], "split": split}
    assert len(rows_of("atlas", demo_tokenizer, n_prompts=n_exist, **options)) == n_exist
    with pytest.raises(DataError, match=f"found {n_exist} distinct prompts; expected {n_exist + 1}"):
        rows_of("atlas", demo_tokenizer, n_prompts=n_exist + 1, **options)


def test_a_held_out_antonym_that_is_alone_in_its_language_gets_a_seen_partner():
    slots = {"word": "low", "antonym": "high", "language": "english", "concept": "low", "split": "held_out"}
    prompt = atlas.render("antonym", slots | {"template": atlas.TEMPLATES["antonym"][0]})
    partner = atlas.partner(prompt, Random(0))
    assert partner.split == "seen"
    assert partner.answer != "high"
    assert partner.slots["language"] == "english"


@pytest.mark.parametrize("kind", ["demo", "bpe"])
def test_ioi_works_with_word_level_and_byte_level_tokenizers(demo_tokenizer, bpe_tokenizer, kind):
    tokenizer = {"demo": demo_tokenizer, "bpe": bpe_tokenizer}[kind]
    rows = rows_of("ioi", tokenizer, n_prompts=80, pairs=True)
    assert {row["order"] for row in rows} == {"ABBA", "BABA"}
    assert len({row["template"] for row in rows}) > 2
    assert ("," in rows[0]["text"]) == (kind == "bpe")
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        one, other = encode(first["text"], tokenizer), encode(second["text"], tokenizer)
        assert len(one) == len(other)
        assert sum(a != b for a, b in zip(one, other, strict=True)) == 1
        assert {first["answer"], second["answer"]} == {first["first"], first["second"]}
        assert first["text"].count(first["answer"]) == 1
        assert first["text"].count(first["giver"]) == 2
        assert len(encode(f"{first['text']} {first['answer']}", tokenizer)) == len(one) + 1


@pytest.mark.parametrize(
    ("number_pattern", "layout"),
    [
        ("{2}", "{century}{start} and"),
        ("{1,3}", "'{start} and"),
        ("{1}", "{century}{start}0 and"),
        (None, "{century} {start} to"),
    ],
)
def test_greater_than_finds_a_layout_with_single_token_numbers(
    demo_tokenizer, make_bpe_tokenizer, number_pattern, layout
):
    tokenizer = demo_tokenizer if number_pattern is None else make_bpe_tokenizer(number_pattern)
    rows = rows_of("greater_than", tokenizer, n_prompts=40, pairs=True)
    assert all(layout in row["template"] for row in rows)
    for row in rows:
        space = " " if number_pattern is None else ""
        whole = encode(row["text"] + space + row["answer"], tokenizer)
        assert whole == [*encode(row["text"], tokenizer), row["answer_token_id"]]
        assert int(row["start"]) < int(row["answer"])


def test_greater_than_partners_answers_are_wrong_in_the_first_prompt(bpe_tokenizer):
    rows = rows_of("greater_than", bpe_tokenizer, n_prompts=100, pairs=True)
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert int(second["start"]) < int(second["answer"]) <= int(first["start"]) < int(first["answer"])
        assert len(encode(first["text"], bpe_tokenizer)) == len(encode(second["text"], bpe_tokenizer))


@pytest.mark.parametrize("name", ["ioi", "greater_than"])
def test_a_tokenizer_with_too_few_single_token_words_is_refused(letter_tokenizer, name):
    with pytest.raises(DataError, match=f"tasks:{name}: found 0 of"):
        rows_of(name, letter_tokenizer)


def test_rows_are_made_one_at_a_time(demo_tokenizer):
    rows = generate("atlas", demo_tokenizer, {"n_prompts": 10**9})
    assert len(list(itertools.islice(rows, 5))) == 5
