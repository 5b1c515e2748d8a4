"""Rows of candidate examples as columns, each with a few activations around it, and the choice of the best ones.

Every choice is of the same kind: rows in an order, at most one for each name (document, text), the first few of each
feature. What is chosen of two parts of a corpus, chosen among again, is what is chosen of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import polars as pl
import pyarrow as pa
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tracer.harvest.hashing import hashed

_PER_ROW = ("feature", "document", "start", "pos", "activation", "draw", "text_hash", "n_near")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Firings that may become examples; `feature` numbers features through all layers.

    The activations near each lie one after another in `near_pos` and `near_value`, `n_near` of them for each row.
    """

    feature: Int[Tensor, " row"]
    document: Int[Tensor, " row"]
    start: Int[Tensor, " row"]
    pos: Int[Tensor, " row"]
    activation: Float[Tensor, " row"]
    draw: Int[Tensor, " row"]
    text_hash: Int[Tensor, " row"]
    n_near: Int[Tensor, " row"]
    near_pos: Int[Tensor, " near"]
    near_value: Float[Tensor, " near"]

    def __len__(self) -> int:
        return len(self.feature)

    def take(self, rows: Int[Tensor, " chosen"]) -> "Candidates":
        """Some rows, in the order given."""
        columns = {name: getattr(self, name)[rows] for name in _PER_ROW}
        near = ranges((self.n_near.cumsum(0) - self.n_near)[rows], columns["n_near"])
        return Candidates(**columns, near_pos=self.near_pos[near], near_value=self.near_value[near])

    def without_near(self) -> "Candidates":
        """The same rows without the activations around them."""
        columns = {name: getattr(self, name) for name in _PER_ROW}
        columns["n_near"] = torch.zeros_like(self.n_near)
        return Candidates(**columns, near_pos=self.near_pos[:0], near_value=self.near_value[:0])

    def to(self, device: torch.device) -> "Candidates":
        """The same on another device."""
        return Candidates(**{column.name: getattr(self, column.name).to(device) for column in fields(self)})


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Rows of several parts, one after another; there must be one part."""
    return Candidates(**{
        column.name: torch.cat([getattr(part, column.name) for part in parts]) for column in fields(Candidates)
    })


def best(rows: Candidates, n_kept: int) -> Int[Tensor, " chosen"]:
    """Places of the strongest rows of each feature, one per document, and of these one per text.

    Ties break on document, start and position, if rows of a document come in the order of start and position.
    """
    order = rows.document.argsort(stable=True)
    order = order[_strength_keys(rows)[order].argsort(stable=True)]
    order = order[is_first(hashed(rows.feature[order], rows.document[order]))]
    order = order[is_first(hashed(rows.feature[order], rows.text_hash[order]))]
    return order[rank_within(rows.feature[order]) < n_kept]


def drawn(rows: Candidates, n_kept: int) -> Int[Tensor, " chosen"]:
    """Places of the rows of least `draw` of each feature, one per document."""
    order = rows.draw.argsort(stable=True)
    order = order[rows.feature[order].argsort(stable=True)]
    order = order[is_first(hashed(rows.feature[order], rows.document[order]))]
    return order[rank_within(rows.feature[order]) < n_kept]


def is_first(names: Int[Tensor, " row"]) -> Tensor:
    """Which rows are the first of their name."""
    order = names.argsort(stable=True)
    in_order = names[order]
    starts = torch.ones_like(in_order, dtype=torch.bool)
    starts[1:] = in_order[1:] != in_order[:-1]
    return torch.zeros_like(starts).scatter(0, order, starts)


def rank_within(groups: Int[Tensor, " row"]) -> Int[Tensor, " row"]:
    """The place of each row among those of its group, which lie one after another."""
    rows = torch.arange(len(groups), device=groups.device)
    starts = torch.ones_like(groups, dtype=torch.bool)
    starts[1:] = groups[1:] != groups[:-1]
    return rows - torch.where(starts, rows, 0).cummax(0).values if len(groups) else rows


def ranges(starts: Int[Tensor, " range"], lengths: Int[Tensor, " range"]) -> Int[Tensor, " member"]:
    """The numbers of several ranges, one range after another."""
    before = lengths.cumsum(0) - lengths
    members = torch.arange(int(lengths.sum()), device=starts.device)
    return members + torch.repeat_interleave(starts - before, lengths)


def _strength_keys(rows: Candidates) -> Int[Tensor, " row"]:
    """Numbers by which rows sort by feature, then by activation, the largest first."""
    bits = rows.activation.view(torch.int32).long()
    rising = torch.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
    return (rows.feature << 32) + (2**31 - 1 - rising)


def candidate_frame(rows: Candidates, kind: str, layers: Int[Tensor, " feature"], offsets: Tensor) -> pl.DataFrame:
    """Rows of `example_candidates`.

    Args:
        rows: the rows.
        kind: top or quantile.
        layers: the layer of each feature.
        offsets: the number of the first feature of its layer, for each feature.
    """
    ends = torch.cat([torch.zeros(1, dtype=torch.long), rows.n_near.cumsum(0)]).numpy().astype("int64")
    lists = {
        name: pa.LargeListArray.from_arrays(pa.array(ends), pa.array(values))
        for name, values in (
            ("firing_pos", rows.near_pos.numpy()),
            ("firing_activations", rows.near_value.double().numpy()),
        )
    }
    frame = pl.DataFrame({
        "layer": layers[rows.feature].numpy(),
        "feature": (rows.feature - offsets[rows.feature]).numpy(),
        "document_key": rows.document.numpy(),
        "window_start": rows.start.numpy(),
        "pos": rows.pos.numpy(),
        "activation": rows.activation.double().numpy(),
        "draw": rows.draw.numpy() if kind == "quantile" else torch.zeros_like(rows.draw).numpy(),
        "text_hash": rows.text_hash.numpy(),
    }).with_columns(pl.lit(kind).alias("kind"))
    return frame.with_columns(**{name: pl.Series(name, pl.from_arrow(array)) for name, array in lists.items()})
