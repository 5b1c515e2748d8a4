"""Text to token ids, in one place: the special token in front, truncation, answers as continuations, visible tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VISIBLE = str.maketrans({" ": "·", "\n": "⏎", "\t": "→", "\r": "↵"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokenRule:
    """Which ids count as special, and which one is put in front of a prompt that starts with none of them.

    Id 0 is an id like any other; only `None` means that there is no special token.
    """

    special_ids: frozenset[int]
    prepend_id: int | None


def special_token_rule(tokenizer: "PreTrainedTokenizerBase") -> SpecialTokenRule:
    """The usual rule: beginning of sequence, else padding, else end of sequence, else any special token.

    The unknown token is no special token here, unless it doubles as one: a prompt may well start with an unknown word.
    """
    preferred = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id]
    unknown_id = tokenizer.unk_token_id if tokenizer.unk_token_id not in preferred else None
    special_ids = [token_id for token_id in tokenizer.all_special_ids if token_id != unknown_id]
    prepend_id = next((token_id for token_id in (*preferred, *special_ids) if token_id is not None), None)
    return SpecialTokenRule(special_ids=frozenset(special_ids), prepend_id=prepend_id)


def encode(text: str, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Ids of `text` alone, with no special token added."""
    return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))


def tokenize(
    prompt: str | Sequence[object],
    tokenizer: "PreTrainedTokenizerBase",
    rule: SpecialTokenRule,
    *,
    max_tokens: int,
    truncate: str,
    where: str,
) -> tuple[int, ...]:
    """Ids of a prompt with a special token in front; given ids are kept and only get that token where it is absent.

    Args:
        prompt: text or token ids.
        tokenizer: a Hugging Face tokenizer.
        rule: which token is put in front.
        max_tokens: longest result, tokens, the special one included; at least 2.
        truncate: `left` or `right`, which end of a longer prompt is cut (the special token stays); `no`: it is refused.
        where: names the prompt in errors.

    Raises:
        DataError: nothing but special or unknown tokens, an id outside the vocabulary, or too long.
    """
    return truncated(with_special_token(prompt, tokenizer, rule, where), rule, max_tokens, truncate, where)


def with_special_token(
    prompt: str | Sequence[object], tokenizer: "PreTrainedTokenizerBase", rule: SpecialTokenRule, where: str
) -> list[int]:
    """All ids of a prompt, a special token in front; raises as `tokenize` does, but for the length."""
    token_ids = encode(prompt, tokenizer) if isinstance(prompt, str) else checked_ids(prompt, tokenizer, where)
    _refuse_empty(token_ids, tokenizer, rule, where)
    if rule.prepend_id is not None and token_ids[0] not in rule.special_ids:
        return [rule.prepend_id, *token_ids]
    return token_ids


def truncated(
    token_ids: list[int], rule: SpecialTokenRule, max_tokens: int, truncate: str, where: str
) -> tuple[int, ...]:
    """At most `max_tokens` of `token_ids`, the end that `truncate` names cut; raises as `tokenize` does."""
    if len(token_ids) <= max_tokens:
        return tuple(token_ids)
    if truncate == "right":
        return tuple(token_ids[:max_tokens])
    if truncate == "left":
        n_lead = int(token_ids[0] in rule.special_ids)
        return tuple(token_ids[:n_lead] + token_ids[len(token_ids) - max_tokens + n_lead :])
    found, expected = f"{len(token_ids)} tokens, special token included", f"at most {max_tokens}"
    raise DataError(where, found=found, expected=expected, to_do="Shorten it, or set corpus.truncate to left or right.")


def checked_ids(token_ids: Sequence[object], tokenizer: "PreTrainedTokenizerBase", where: str) -> list[int]:
    """`token_ids` as a list.

    Raises:
        DataError: one of them is no whole number or outside the vocabulary.
    """
    d_vocab, checked = len(tokenizer), []
    for token_id in token_ids:
        if isinstance(token_id, bool) or not isinstance(token_id, int) or not 0 <= token_id < d_vocab:
            expected = f"whole numbers from 0 to {d_vocab - 1}"
            to_do = "Check that the ids were made by this model's tokenizer."
            raise DataError(where, found=f"token id {token_id!r}", expected=expected, to_do=to_do)
        checked.append(token_id)
    return checked


def _refuse_empty(
    token_ids: list[int], tokenizer: "PreTrainedTokenizerBase", rule: SpecialTokenRule, where: str
) -> None:
    ordinary = [token_id for token_id in token_ids if token_id not in rule.special_ids]
    if any(token_id != tokenizer.unk_token_id for token_id in ordinary):
        return
    found = "only unknown tokens" if ordinary else "only special tokens" if token_ids else "no tokens"
    raise DataError(
        where, found=found, expected="text that the vocabulary can say", to_do="Check or remove the prompt."
    )


def with_space(text: str, answer: str, tokenizer: "PreTrainedTokenizerBase") -> str:
    """`answer` as it follows `text`: a space in front, unless one has it or `text` ends with a special token."""
    has_space = text[-1:].isspace() or answer[:1].isspace()
    ends_special = not text or any(text.endswith(token) for token in tokenizer.all_special_tokens)
    return answer if has_space or ends_special else f" {answer}"


def continuation_ids(text: str, continuation: str, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Ids behind those of `text` in `text + continuation`; where the ids of `text` change, `continuation`'s alone."""
    text_ids, both_ids = encode(text, tokenizer), encode(text + continuation, tokenizer)
    if len(both_ids) > len(text_ids) and both_ids[: len(text_ids)] == text_ids:
        return tuple(both_ids[len(text_ids) :])
    return tuple(encode(continuation, tokenizer))


def answer_token_id(text: str, answer: str, tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """First token of `answer` after `text`; None where it is unknown to the vocabulary."""
    first_id = next(iter(continuation_ids(text, with_space(text, answer, tokenizer), tokenizer)), None)
    return None if first_id == tokenizer.unk_token_id else first_id


def is_single_token(text: str, continuation: str, tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether `continuation` adds exactly one known token to those of `text` and leaves them as they are."""
    text_ids, both_ids = encode(text, tokenizer), encode(text + continuation, tokenizer)
    return both_ids[:-1] == text_ids and both_ids[-1] != tokenizer.unk_token_id


def single_token_words(words: Iterable[str], tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Those of `words` that are one token inside a sentence, after another word and a space."""
    return [word for word in words if is_single_token("the", f" {word}", tokenizer)]


def visible(token: str) -> str:
    """`token` with its white space shown: space ·, newline ⏎, tab →, return ↵."""
    return token.translate(VISIBLE)
