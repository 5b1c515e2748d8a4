"""Rows to prompts: reserved columns, metadata as plain values."""

import datetime
import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.config import CorpusConfig
from tracer.corpus.records import RowReader, plain_value
from tracer.corpus.tokens import special_token_rule
from tracer.errors import DataError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def reader(tokenizer, max_tokens=64, **settings) -> RowReader:
    config = CorpusConfig(source="prompts.jsonl", **settings)
    return RowReader(config=config, tokenizer=tokenizer, rule=special_token_rule(tokenizer), max_tokens=max_tokens)


def test_reserved_columns_go_to_their_fields_and_the_rest_to_metadata(demo_tokenizer):
    row = {
        "text": "Dallas is in",
        "answer": "Texas",
        "counterfactual_answer": "Ohio",
        "pair_id": 7,
        "task": "city",
        "split": "seen",
        "city": "Dallas",
        "n": 3,
    }
    prompt = reader(demo_tokenizer).read(row, "row-1")
    assert prompt.token_ids == (1, *demo_tokenizer.encode("Dallas is in", add_special_tokens=False))
    assert (prompt.task, prompt.split, prompt.pair_id) == ("city", "seen", "7")
    assert (prompt.answer, prompt.counterfactual_answer) == ("Texas", "Ohio")
    assert prompt.answer_token_id == demo_tokenizer.convert_tokens_to_ids("Texas")
    assert prompt.metadata == {"city": "Dallas", "n": 3}
    assert prompt.targets == ()
    assert prompt.text == "Dallas is in"


def test_only_the_metadata_columns_asked_for_are_kept(demo_tokenizer):
    row = {"prompt": "Dallas is in", "city": "Dallas", "n": 3, "task": "city"}
    prompt = reader(demo_tokenizer, text_column="prompt", metadata_columns=["n", "task"]).read(row, "row-1")
    assert prompt.metadata == {"n": 3}
    assert prompt.task == "city"


def test_given_token_ids_win_over_text_and_are_never_tokenised_again(demo_tokenizer):
    token_ids = demo_tokenizer.encode("Dallas is in", add_special_tokens=False)
    prompt = reader(demo_tokenizer).read({"text": "Houston is in", "token_ids": token_ids}, "row-1")
    assert prompt.token_ids == (1, *token_ids)
    assert prompt.text == "Houston is in"
    assert reader(demo_tokenizer).read({"token_ids": [1, *token_ids]}, "row-1").text == "Dallas is in"


def test_messages_go_through_the_chat_template_where_there_is_no_text(chat_tokenizer):
    messages = [{"role": "user", "content": "Where is Dallas?"}]
    prompt = reader(chat_tokenizer).read({"messages": messages, "answer": "Texas"}, "row-1")
    assert prompt.text == "<end>[user] Where is Dallas?\n[assistant]"
    assert prompt.token_ids.count(0) == 1
    assert chat_tokenizer.decode(prompt.token_ids) == prompt.text
    assert reader(chat_tokenizer).read({"text": "Dallas is in", "messages": messages}, "row-1").text == "Dallas is in"


def test_a_given_answer_token_travels_as_it_is(bpe_tokenizer):
    joined = bpe_tokenizer.encode("the year 1732", add_special_tokens=False)[-1]
    row = {"text": "the year 17", "answer": "32"}
    assert reader(bpe_tokenizer).read(row, "row-1").answer_token_id != joined
    assert reader(bpe_tokenizer).read(row | {"answer_token_id": joined}, "row-1").answer_token_id == joined


def test_the_answer_of_a_prompt_whose_end_was_cut_has_no_token(demo_tokenizer):
    row = {"text": "people in Dallas live in", "answer": "Texas"}
    cut = reader(demo_tokenizer, max_tokens=4, truncate="right").read(row, "row-1")
    assert cut.answer == "Texas"
    assert cut.answer_token_id is None
    for settings in ({"max_tokens": 4, "truncate": "left"}, {"max_tokens": 6, "truncate": "right"}):
        assert reader(demo_tokenizer, **settings).read(row, "row-1").answer_token_id is not None


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"text": None}, "text = None"),
        ({"text": 12}, "text = 12"),
        ({"text": "Dallas \ud800"}, "half a surrogate pair"),
        ({"text": "Dallas", "city": "\udfff"}, "half a surrogate pair"),
        ({"token_ids": "1 2 3"}, "token_ids = '1 2 3'"),
        ({"text": "Dallas", "answer_token_id": 10**6}, "token id 1000000"),
        ({"text": "Dallas", "image": b"\x89PNG"}, "image holds bytes"),
        ({"text": "Dallas", "parts": [{"image": b"\x89PNG"}]}, "parts holds bytes"),
        ({"messages": [{"role": "user", "content": "a"}]}, "no chat template"),
    ],
)
def test_a_row_that_holds_no_usable_prompt_is_refused(demo_tokenizer, row, found):
    with pytest.raises(DataError) as caught:
        reader(demo_tokenizer).read(row, "prompts.jsonl, row-1")
    assert found in caught.value.found


def test_a_source_without_a_column_for_the_prompt_is_refused_with_the_columns_it_has(demo_tokenizer):
    with pytest.raises(DataError, match="columns prompt, city; expected a column 'text'"):
        reader(demo_tokenizer).check_columns({"prompt": "a", "city": "b"})
    for name in ("text", "token_ids"):
        reader(demo_tokenizer).check_columns({name: None})
    with pytest.raises(DataError, match="no chat template"):
        reader(demo_tokenizer).check_columns({"messages": []})


@given(JSON)
def test_any_json_value_becomes_text_a_finite_number_a_truth_value_or_null(value):
    plain = plain_value(value, "column", "row-1")
    assert plain is None or isinstance(plain, str | int | float | bool)
    assert not isinstance(plain, float) or math.isfinite(plain)
    assert not isinstance(plain, int) or -(2**63) <= plain < 2**63
    json.dumps(plain, allow_nan=False).encode()


def test_times_and_decimals_become_text_that_sorts_or_reads_as_they_do():
    assert plain_value(datetime.date(2024, 7, 26), "c", "row-1") == "2024-07-26"
    assert plain_value(Decimal("1.50"), "c", "row-1") == "1.50"
    assert plain_value({"b": [1, None], "a": "é"}, "c", "row-1") == '{"a": "é", "b": [1, null]}'
