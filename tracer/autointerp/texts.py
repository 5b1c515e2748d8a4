"""Texts that show a feature, and how they are written for a reader: firing tokens in marks, white space visible."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby

from tracer.corpus.tokens import VISIBLE

LINE_ENDS = str.maketrans({ord(end): VISIBLE[ord(end)] for end in "\n\r\t"})
FIRES, READS = ("«", "»"), ("[[", "]]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureText:
    """A window of a document with a feature's activations, 0 where it is inactive; `peak_idx` is the place that the
    window was taken for. `kind` is top, quantile, random or near_miss; `split` explain or score.
    """

    document_id: str
    split: str
    kind: str
    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak_idx: int

    @property
    def is_active(self) -> bool:
        """Whether the feature fires anywhere in it."""
        return any(self.activations)

    @property
    def firing(self) -> frozenset[int]:
        """Where it fires."""
        return frozenset(idx for idx, activation in enumerate(self.activations) if activation)


def separator(tokens: Collection[str]) -> str:
    """What stands between two tokens in readable text: nothing where tokens bring their own spaces, else a space."""
    return "" if any(token[:1].isspace() or token[:1] in "Ġ▁" for token in tokens) else " "


def write(
    tokens: Sequence[str],
    between: str,
    *,
    firing: Collection[int] = frozenset(),
    read: Collection[int] = frozenset(),
) -> str:
    """A text in one line.

    Args:
        tokens: its tokens.
        between: as `separator` gives it.
        firing: places in «marks», neighbours in one pair of them.
        read: places in [[marks]]; those that also fire have both.
    """
    pieces = []
    for (fires, reads), run in groupby(range(len(tokens)), key=lambda idx: (idx in firing, idx in read)):
        text = between.join(tokens[idx] for idx in run)
        if reads:
            text = _mark(text, READS)
        pieces.append(_mark(text, FIRES) if fires else text)
    return between.join(pieces).translate(LINE_ENDS).strip()


def _mark(text: str, marks: tuple[str, str]) -> str:
    # a space in front of a token stays in front of its mark
    space = text[: len(text) - len(text.lstrip(" "))]
    return f"{space}{marks[0]}{text.lstrip(' ')}{marks[1]}"


def numbered(lines: Sequence[str]) -> str:
    """Lines with their numbers, from 1."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
