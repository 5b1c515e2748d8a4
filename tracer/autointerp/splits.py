"""Which texts a label may be made from and which it is tested on: apart by document, and by the text itself."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

from tracer.errors import DataError


@runtime_checkable
class Text(Protocol):
    """A text that shows a feature."""

    @property
    def document_id(self) -> str:
        """The document that it is of."""

    @property
    def split(self) -> str:
        """`explain` or `score`, by hash of the document."""

    @property
    def tokens(self) -> tuple[str, ...]:
        """Its tokens."""


AnyText = TypeVar("AnyText", bound=Text)


def part(texts: Sequence[AnyText]) -> tuple[list[AnyText], list[AnyText]]:
    """Texts to explain from and texts to score on, in the given order."""
    explaining = [text for text in texts if text.split == "explain"]
    return explaining, held_out(texts, explaining)


def held_out(texts: Sequence[AnyText], seen: Sequence[Text]) -> list[AnyText]:
    """The texts to score on, but for those that a label's author has read all the same.

    A corpus made from templates says the same thing in many documents, and prompts of the run may be in the harvest; so
    a text is left out where its document, or its very tokens, are among those seen.

    Args:
        texts: of both splits.
        seen: what the label was made from.
    """
    documents, tokens = {text.document_id for text in seen}, {text.tokens for text in seen}
    return [
        text
        for text in texts
        if text.split == "score" and text.document_id not in documents and text.tokens not in tokens
    ]


def check_apart(explaining: Sequence[Text], scoring: Sequence[Text]) -> None:
    """Refuse a label's texts that are on both sides; asked before any call that scores.

    Raises:
        DataError: a document, or the very tokens of a text, is on both sides.
    """
    documents = {text.document_id for text in explaining} & {text.document_id for text in scoring}
    tokens = {text.tokens for text in explaining} & {text.tokens for text in scoring}
    if documents or tokens:
        raise DataError(
            "examples of a label",
            found=f"{len(documents)} documents and {len(tokens)} texts both explained from and scored on",
            expected="documents of one split each",
            to_do="Make the harvest again: its splits are damaged.",
        )
