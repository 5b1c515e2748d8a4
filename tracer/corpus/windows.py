"""Documents cut into windows: parts of one document each, never of two, behind a special token of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracer.corpus.prompt_files import read_token_ids
from tracer.corpus.tokens import SpecialTokenRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Part of a document as the model sees it: `token_ids` with a special token in front, where the model has one.

    `start` is the place in the document of its first own token; `document_id` 16 hex digits.
    """

    document_id: str
    start: int
    token_ids: tuple[int, ...]


def windows_of(
    document_id: str, token_ids: Sequence[int], rule: SpecialTokenRule, *, window_tokens: int
) -> Iterator[Window]:
    """A document back to back in windows of equal length, but for the last, which holds the rest.

    Args:
        document_id: its id.
        token_ids: its tokens; a special one in front is put in front of every window.
        rule: which tokens are special.
        window_tokens: longest window, the special token included; at least 2.
    """
    front = token_ids[:1] if token_ids and token_ids[0] in rule.special_ids else ()
    own = token_ids[len(front) :]
    size = window_tokens - len(front)
    for start in range(0, len(own), size):
        held = (*front, *own[start : start + size])
        yield Window(document_id=document_id, start=start, token_ids=held)


def stored_windows(root: Path, rule: SpecialTokenRule, *, window_tokens: int) -> Iterator[Window]:
    """The windows of all documents that a harvest, or a run, has stored, in their order.

    Args:
        root: its local folder.
        rule: which tokens are special.
        window_tokens: longest window.

    Raises:
        ArtifactError: there are no documents, or a file of them is damaged.
    """
    for document_id, token_ids in read_token_ids(root):
        yield from windows_of(document_id, token_ids, rule, window_tokens=window_tokens)


def n_windows_of(n_tokens: int, *, has_front: bool, window_tokens: int) -> int:
    """How many windows a document gives.

    Args:
        n_tokens: its length with the special token in front, if it has one.
        has_front: whether it has.
        window_tokens: longest window.
    """
    n_own, size = n_tokens - has_front, window_tokens - has_front
    return -(-n_own // size)


def batches_of(windows: Sequence[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Windows in order, as many at once as fit when all are padded to the longest; at least one.

    Args:
        windows: of the documents of a shard, in order.
        batch_tokens: positions at once, padding included.
    """
    batch: list[Window] = []
    longest = 0
    for window in windows:
        longest = max(longest, len(window.token_ids))
        if batch and longest * (len(batch) + 1) > batch_tokens:
            yield batch
            batch, longest = [], len(window.token_ids)
        batch.append(window)
    if batch:
        yield batch
