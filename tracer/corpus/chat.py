"""Conversations to text, through the tokenizer's own chat template, the same on every day."""

import hashlib
from typing import TYPE_CHECKING, TypeGuard

from jinja2 import TemplateError

from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Some templates write today's date into the prompt; the corpus would then change overnight. The day is the one that
# Llama 3's template falls back to.
_FIXED_DATE = (
    "{% macro strftime_now(format) %}"
    "{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July') | replace('%m', '07')"
    " | replace('%Y', '2024') | replace('%y', '24') }}"
    "{% endmacro %}\n"
)


def chat_template(tokenizer: "PreTrainedTokenizerBase") -> str:
    """The template that `render` applies; a call of the current date in it gives a fixed one.

    Raises:
        DataError: the tokenizer has no template, or several and no default.
    """
    try:
        template = tokenizer.get_chat_template()
    except ValueError as error:
        to_do = "Use an instruction-tuned checkpoint, or give the prompts as text."
        expected = "one, since the corpus holds messages"
        raise DataError("tokenizer", found="no chat template", expected=expected, to_do=to_do) from error
    return _FIXED_DATE + template if "strftime_now" in template else template


def chat_template_hash(tokenizer: "PreTrainedTokenizerBase") -> str:
    """16 hex digits over the template as applied."""
    return hashlib.sha256(chat_template(tokenizer).encode()).hexdigest()[:16]


def render(messages: object, tokenizer: "PreTrainedTokenizerBase", where: str) -> str:
    """The conversation as text, up to where the assistant speaks or, if the last message is its own, goes on.

    Raises:
        DataError: no list of role and content, or one that the template refuses.
    """
    expected = "a list of messages, each with a role and a content"
    if not _is_conversation(messages):
        found = f"messages = {str(messages)[:80]!r}"
        raise DataError(where, found=found, expected=expected, to_do="Check or remove the row.")
    goes_on = messages[-1]["role"] == "assistant"
    try:
        rendered = tokenizer.apply_chat_template(
            messages,
            chat_template=chat_template(tokenizer),
            tokenize=False,
            add_generation_prompt=not goes_on,
            continue_final_message=goes_on,
        )
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
        found = f"messages that the chat template refuses ({error})"
        raise DataError(where, found=found, expected=expected, to_do="Check or remove the row.") from error
    return str(rendered)


def _is_conversation(messages: object) -> TypeGuard[list[dict[str, str]]]:
    if not isinstance(messages, list) or not messages:
        return False
    return all(isinstance(message, dict) and "role" in message for message in messages)
