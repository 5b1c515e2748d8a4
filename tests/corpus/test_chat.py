"""Chat templates: rendering, refusals, and the fixed date."""

import pytest

from tracer.corpus.chat import chat_template, chat_template_hash, render
from tracer.errors import DataError


def test_a_users_question_ends_where_the_assistant_speaks(chat_tokenizer):
    messages = [{"role": "user", "content": "Where is Dallas?"}]
    assert render(messages, chat_tokenizer, "row-1") == "<end>[user] Where is Dallas?\n[assistant]"


def test_an_assistants_last_message_is_left_open(chat_tokenizer):
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Dallas is in"}]
    assert render(messages, chat_tokenizer, "row-1") == "<end>[user] Where?\n[assistant] Dallas is in"


@pytest.mark.parametrize("messages", [None, [], "hello", [{"content": "no role"}], ["text"]])
def test_what_is_no_conversation_is_refused(chat_tokenizer, messages):
    with pytest.raises(DataError, match="list of messages"):
        render(messages, chat_tokenizer, "row-1")


def test_a_conversation_that_the_template_refuses_is_a_data_error(chat_tokenizer):
    chat_tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(DataError, match="roles must alternate"):
        render([{"role": "user", "content": "a"}], chat_tokenizer, "row-1")


def test_a_tokenizer_without_a_template_is_refused(demo_tokenizer):
    with pytest.raises(DataError, match="no chat template"):
        chat_template(demo_tokenizer)


def test_the_hash_follows_the_template(chat_tokenizer):
    before = chat_template_hash(chat_tokenizer)
    chat_tokenizer.chat_template += "!"
    assert len(before) == 16
    assert chat_template_hash(chat_tokenizer) != before


@pytest.mark.parametrize(
    ("date_format", "expected"), [("%d %b %Y", "26 Jul 2024"), ("%Y-%m-%d", "2024-07-26"), ("%d %B %Y", "26 July 2024")]
)
def test_a_template_that_asks_for_todays_date_gets_a_fixed_one_and_is_else_unchanged(
    chat_tokenizer, date_format, expected
):
    template = (
        "\n  {% if true %}\nToday is {{ strftime_now('" + date_format + "') }}. {{ messages[0]['content'] }}{% endif %}"
    )
    chat_tokenizer.chat_template = template.replace(f"strftime_now('{date_format}')", f"'{expected}'")
    messages = [{"role": "user", "content": "Hi"}]
    literal = render(messages, chat_tokenizer, "row-1")
    chat_tokenizer.chat_template = template
    assert render(messages, chat_tokenizer, "row-1") == literal
