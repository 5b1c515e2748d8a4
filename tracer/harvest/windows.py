"""What the pass hands on: windows of documents with the sparse activations of every layer, batch by batch.

A window is part of one document, never of two, behind a special token of its own. Accumulators take batches and give
tables that can be merged; the windows of a document come one after another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import polars as pl
from jaxtyping import Bool, Float, Int
from torch import Tensor

PADDING = -1
"""Stands behind the tokens of shorter windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFirings:
    """Active features of one layer in a batch at eligible positions, sorted by feature, then window, then position.

    `row` is the place of the window in its batch.
    """

    layer: int
    feature: Int[Tensor, " firing"]
    row: Int[Tensor, " firing"]
    pos: Int[Tensor, " firing"]
    value: Float[Tensor, " firing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowBatch:
    """Some windows, in the order of their documents, and what fires in them."""

    token_ids: Int[Tensor, "window pos"]
    """Tokens, the special one in front included; `PADDING` behind shorter windows."""
    eligible: Bool[Tensor, "window pos"]
    """Where a feature may fire: no padding, no special token, no position of high norm."""
    document: Int[Tensor, " window"]
    """The document's key: its id as a signed number of the same order."""
    start: Int[Tensor, " window"]
    """Place in the document of the window's first own token."""
    layers: tuple[LayerFirings, ...]


@runtime_checkable
class Accumulator(Protocol):
    """Counts over batches; what two of them give over two sets of documents merges to what one gives over both."""

    def add(self, batch: WindowBatch) -> None:
        """Take one more batch."""

    def tables(self) -> Mapping[str, pl.DataFrame]:
        """What was counted, by the name of its partial table."""


def document_key(document_id: str) -> int:
    """A document id of 16 hex digits as a signed 64-bit number of the same order."""
    return int(document_id, 16) - 2**63


def document_id(key: int) -> str:
    """The inverse of `document_key`."""
    return f"{key + 2**63:016x}"
