"""Special tokens, truncation, answers as continuations, visible white space."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tracer.corpus.tokens import (
    SpecialTokenRule,
    answer_token_id,
    continuation_ids,
    is_single_token,
    single_token_words,
    special_token_rule,
    tokenize,
    truncated,
    visible,
    with_space,
)
from tracer.errors import DataError


def run_tokenize(prompt, tokenizer, *, max_tokens=64, truncate="no"):
    rule = special_token_rule(tokenizer)
    return tokenize(prompt, tokenizer, rule, max_tokens=max_tokens, truncate=truncate, where="a prompt")


def word_level(*words: str, **special: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.WordLevel({word: idx for idx, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_a_special_token_with_id_0_is_put_in_front_and_recognised(bpe_tokenizer):
    rule = special_token_rule(bpe_tokenizer)
    assert rule == SpecialTokenRule(special_ids=frozenset({0}), prepend_id=0)
    token_ids = run_tokenize("the store", bpe_tokenizer)
    assert token_ids[0] == 0
    assert 0 not in token_ids[1:]
    assert run_tokenize("<end>the store", bpe_tokenizer) == token_ids
    assert run_tokenize(list(token_ids), bpe_tokenizer) == token_ids


@pytest.mark.parametrize(
    ("special", "expected"),
    [
        ({"bos_token": "<b>", "pad_token": "<p>", "eos_token": "<e>"}, 1),
        ({"pad_token": "<p>", "eos_token": "<e>"}, 0),
        ({"eos_token": "<e>"}, 2),
        ({"cls_token": "<c>"}, 3),
        ({"unk_token": "<unk>"}, None),
        ({}, None),
    ],
)
def test_the_special_token_is_bos_else_pad_else_eos_else_any(special, expected):
    tokenizer = word_level("<p>", "<b>", "<e>", "<c>", "<unk>", "a", **special)
    assert special_token_rule(tokenizer).prepend_id == expected


def test_without_special_tokens_nothing_is_put_in_front():
    assert run_tokenize("a a", word_level("a", "<unk>")) == (0, 0)


def test_a_prompt_that_starts_with_an_unknown_word_still_gets_the_special_token(demo_tokenizer):
    token_ids = run_tokenize("xyzzy is in", demo_tokenizer)
    assert token_ids[:2] == (demo_tokenizer.bos_token_id, demo_tokenizer.unk_token_id)


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("", "no tokens"),
        ("  \n", "no tokens"),
        ([], "no tokens"),
        ("xyzzy plugh", "only unknown tokens"),
        ("<bos>", "only special tokens"),
        ([4, 10_000], "token id 10000"),
        ([4, -1], "token id -1"),
        ([4, True], "token id True"),
        ([4, 1.5], "token id 1.5"),
        ("the city " * 40, "81 tokens, special token included"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_refused_with_what_was_found(demo_tokenizer, prompt, found):
    with pytest.raises(DataError) as caught:
        run_tokenize(prompt, demo_tokenizer)
    assert caught.value.found == found
    assert caught.value.where == "a prompt"


def test_truncation_keeps_the_special_token_and_the_end_that_is_asked_for(demo_tokenizer):
    whole = run_tokenize("people in Dallas live in", demo_tokenizer)
    assert run_tokenize("people in Dallas live in", demo_tokenizer, max_tokens=3, truncate="left") == (1, *whole[-2:])
    assert run_tokenize("people in Dallas live in", demo_tokenizer, max_tokens=3, truncate="right") == whole[:3]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(2, 14), st.sampled_from(["left", "right"]))
def test_truncated_ids_are_a_prefix_or_a_suffix_behind_the_special_token(token_ids, max_tokens, truncate):
    rule = SpecialTokenRule(special_ids=frozenset({0}), prepend_id=0)
    kept = truncated(token_ids, rule, max_tokens, truncate, "a prompt")
    assert len(kept) == min(len(token_ids), max_tokens)
    if truncate == "right":
        assert list(kept) == token_ids[: len(kept)]
    else:
        n_lead = int(token_ids[0] == 0)
        assert list(kept[:n_lead]) == token_ids[:n_lead]
        assert list(kept[n_lead:]) == token_ids[len(token_ids) - len(kept) + n_lead :]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_byte_level_ids_decode_to_the_prompt_again(bpe_tokenizer, text):
    token_ids = run_tokenize(f"a{text}", bpe_tokenizer, max_tokens=200)
    assert bpe_tokenizer.decode(token_ids[1:], clean_up_tokenization_spaces=False) == f"a{text}"


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("she lives in", "Texas", " Texas"),
        ("she lives in ", "Texas", "Texas"),
        ("she lives in", " Texas", " Texas"),
        ("[assistant]\n", "Texas", "Texas"),
        ("she lives in<end>", "Texas", "Texas"),
        ("", "Texas", "Texas"),
    ],
)
def test_a_space_is_put_between_prompt_and_answer_unless_one_has_it(bpe_tokenizer, text, answer, expected):
    assert with_space(text, answer, bpe_tokenizer) == expected


def test_the_answers_token_is_the_one_with_the_space_where_the_tokenizer_has_such(bpe_tokenizer, demo_tokenizer):
    with_leading_space = bpe_tokenizer.convert_tokens_to_ids("ĠTexas")
    assert answer_token_id("Houston is in", "Texas", bpe_tokenizer) == with_leading_space
    assert answer_token_id("Houston is in", " Texas", bpe_tokenizer) == with_leading_space
    assert answer_token_id("Houston is in", "Texas", demo_tokenizer) == demo_tokenizer.convert_tokens_to_ids("Texas")


def test_where_the_answer_changes_the_prompts_tokens_its_own_first_token_is_taken(bpe_tokenizer):
    assert continuation_ids("Houston is in ", "Texas", bpe_tokenizer) == tuple(
        bpe_tokenizer.encode("Texas", add_special_tokens=False)
    )


def test_an_answer_that_the_vocabulary_cannot_say_has_no_token(demo_tokenizer):
    assert answer_token_id("Houston is in", "Xanadu", demo_tokenizer) is None


def test_single_token_words_are_one_known_token_in_context(bpe_tokenizer, demo_tokenizer):
    assert single_token_words(["John", "Mary", "Zebulonia"], bpe_tokenizer) == ["John", "Mary"]
    assert single_token_words(["John", "Mary", "Zebulonia"], demo_tokenizer) == ["John", "Mary"]
    assert is_single_token("the year 17", "32", bpe_tokenizer)
    assert not is_single_token("the year 1", "7", bpe_tokenizer)
    assert not is_single_token("the", "", bpe_tokenizer)


def test_visible_shows_white_space_and_leaves_the_rest():
    assert visible(" a b\n\tc\r") == "·a·b⏎→c↵"
