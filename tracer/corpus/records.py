"""One row of a source to one `Prompt`: which columns mean what, and metadata as plain values."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from tracer.config import CorpusConfig
from tracer.corpus import chat
from tracer.corpus.prompts import Prompt, Value, identified
from tracer.corpus.tokens import SpecialTokenRule, answer_token_id, checked_ids, truncated, with_special_token
from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESERVED_TEXTS = ("task", "split", "pair_id", "answer", "counterfactual_answer")
RESERVED = (*RESERVED_TEXTS, "answer_token_id", "token_ids", "messages")
"""Optional columns with a meaning of their own. The prompt is `token_ids`, else the text column, else `messages`."""

_INT64_LIMIT = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class RowReader:
    """Makes prompts of rows for one corpus and one tokenizer; `max_tokens` counts the special token."""

    config: CorpusConfig
    tokenizer: "PreTrainedTokenizerBase"
    rule: SpecialTokenRule
    max_tokens: int

    def check_columns(self, row: Mapping[str, object]) -> None:
        """Refuse a source whose first row holds no prompt.

        Raises:
            DataError: none of the columns that hold a prompt, or messages without a chat template.
        """
        columns = (self.config.text_column, "token_ids", "messages")
        if not any(name in row for name in columns):
            found = f"the columns {', '.join(row)}" if row else "no columns"
            expected = f"a column {self.config.text_column!r} (or token_ids, or messages)"
            to_do = "Set corpus.text_column to the column that holds the prompt."
            raise DataError(self.config.source, found=found, expected=expected, to_do=to_do)
        if self.uses_messages(row):
            chat.chat_template(self.tokenizer)

    def uses_messages(self, row: Mapping[str, object]) -> bool:
        """Whether the row's prompt is its conversation."""
        has_other = row.get("token_ids") is not None or row.get(self.config.text_column) is not None
        return not has_other and row.get("messages") is not None

    def read(self, row: Mapping[str, object], where: str) -> Prompt:
        """The row's prompt, as the first of its kind.

        Raises:
            DataError: the row holds no usable prompt.
        """
        text, given = self._text(row, where), _given_ids(row, where)
        whole = with_special_token(text if given is None else given, self.tokenizer, self.rule, where)
        token_ids = truncated(whole, self.rule, self.max_tokens, self.config.truncate, where)
        if given is not None and not text:
            ordinary = [token_id for token_id in token_ids if token_id not in self.rule.special_ids]
            text = str(self.tokenizer.decode(ordinary))
        reserved = {name: _reserved_text(row, name, where) for name in RESERVED_TEXTS}
        is_end_cut = self.config.truncate == "right" and len(token_ids) < len(whole)
        prompt = Prompt(
            prompt_id="",
            text=text,
            token_ids=token_ids,
            targets=(),
            answer_token_id=None if is_end_cut else self._answer_token_id(row, text, reserved["answer"], where),
            metadata=self._metadata(row, where),
            **reserved,
        )
        return identified(prompt, occurrence=0)

    def _text(self, row: Mapping[str, object], where: str) -> str:
        if self.uses_messages(row):
            return checked_text(chat.render(row["messages"], self.tokenizer, where), where)
        text = row.get(self.config.text_column)
        if text is None and row.get("token_ids") is not None:
            return ""
        if not isinstance(text, str):
            found = f"{self.config.text_column} = {str(text)[:80]}"
            raise DataError(where, found=found, expected="text", to_do="Check or remove the row.")
        return checked_text(text, where)

    def _answer_token_id(self, row: Mapping[str, object], text: str, answer: str | None, where: str) -> int | None:
        given = row.get("answer_token_id")
        if given is not None:
            return checked_ids([given], self.tokenizer, where)[0]
        return answer_token_id(text, answer, self.tokenizer) if answer is not None else None

    def _metadata(self, row: Mapping[str, object], where: str) -> dict[str, Value]:
        taken = {*RESERVED, self.config.text_column}
        wanted = row if self.config.metadata_columns is None else self.config.metadata_columns
        return {name: plain_value(row.get(name), name, where) for name in wanted if name not in taken and name in row}


def _given_ids(row: Mapping[str, object], where: str) -> list[object] | None:
    given = row.get("token_ids")
    if given is None or isinstance(given, list):
        return given
    found = f"token_ids = {str(given)[:80]!r}"
    raise DataError(where, found=found, expected="a list of whole numbers", to_do="Check or remove the row.")


def _reserved_text(row: Mapping[str, object], name: str, where: str) -> str | None:
    value = plain_value(row.get(name), name, where)
    return None if value is None or value == "" else str(value)


def checked_text(text: str, where: str) -> str:
    """`text`, if it can be written as UTF-8.

    Raises:
        DataError: it holds half a surrogate pair, as broken JSON escapes make, and bytes of a file that are no UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        to_do = "Check or remove the row."
        found = "half a surrogate pair, or bytes that are no UTF-8"
        raise DataError(where, found=found, expected="valid Unicode", to_do=to_do) from error
    return text


def plain_value(value: object, name: str, where: str) -> Value:
    """A metadata value as text, number, truth value or null; lists and mappings become JSON, times ISO text.

    Numbers that are not finite become null; whole numbers beyond 64 bits become text.

    Raises:
        DataError: the value is none of these (an image, bytes).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checked_text(value, where)
    if isinstance(value, int):
        return value if -_INT64_LIMIT <= value < _INT64_LIMIT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal | UUID):
        return str(value)
    if isinstance(value, list | dict):
        try:
            return json.dumps(
                value, ensure_ascii=False, sort_keys=True, default=lambda part: plain_value(part, name, where)
            )
        except RecursionError as error:
            raise _no_plain_value(value, name, where) from error
    raise _no_plain_value(value, name, where)


def _no_plain_value(value: object, name: str, where: str) -> DataError:
    to_do = "List the columns to keep in corpus.metadata_columns, without this one."
    return DataError(where, found=f"{name} holds {type(value).__name__}", expected="plain data", to_do=to_do)
