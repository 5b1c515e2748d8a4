"""Which chosen features are active at the same positions, and in the same documents.

Beside pairs, the number of active features of every place is counted, over all features: the null that pairs are held
against knows how full positions and documents are. What is held does not grow with the corpus.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from jaxtyping import Int
from scipy import sparse
from torch import Tensor

from tracer.harvest.windows import WindowBatch

TOKEN, DOCUMENT = "token", "document"
PAIRS_SCHEMA = pl.Schema({
    "grain": pl.String, "layer_a": pl.Int64, "feature_a": pl.Int64, "layer_b": pl.Int64, "feature_b": pl.Int64,
    "support": pl.Int64,
})  # fmt: skip
LENGTHS_SCHEMA = pl.Schema({"grain": pl.String, "length": pl.Int64, "n": pl.Int64})
N_POSITIONS_AT_ONCE = 4096
Ints = npt.NDArray[np.int64]


class CoactivationCounts:
    """An accumulator (`tracer.harvest.windows.Accumulator`) of the partial tables `coactivation_pairs` and
    `coactivation_lengths`.

    Args:
        features: the chosen (layer, feature) pairs; each once, whatever the order.
        n_features: features of every layer.
    """

    def __init__(self, features: Sequence[tuple[int, int]], n_features: Sequence[int]) -> None:
        self._chosen = sorted(set(features))
        self._place = [np.full(n, -1, np.int64) for n in n_features]
        for place, (layer, feature) in enumerate(self._chosen):
            self._place[layer][feature] = place
        n_chosen = len(self._chosen)
        self._support = {grain: np.zeros((n_chosen, n_chosen), np.int64) for grain in (TOKEN, DOCUMENT)}
        self._lengths = {grain: np.zeros(1, np.int64) for grain in (TOKEN, DOCUMENT)}
        self._seen = [np.zeros(n, bool) for n in n_features]
        self._open_document: int | None = None

    def add(self, batch: WindowBatch) -> None:
        """Take one more batch; a document may go on in the next one."""
        self._add_positions(batch)
        self._add_documents(batch)

    def tables(self) -> dict[str, pl.DataFrame]:
        """What was counted; the document that is open is taken to be whole."""
        self._close()
        pairs = [self._pairs(grain) for grain in (TOKEN, DOCUMENT)]
        lengths = [self._length_rows(grain) for grain in (TOKEN, DOCUMENT)]
        return {"coactivation_pairs": pl.concat(pairs), "coactivation_lengths": pl.concat(lengths)}

    def _add_positions(self, batch: WindowBatch) -> None:
        n_windows, n_pos = batch.eligible.shape
        active = np.zeros(n_windows * n_pos, np.int64)
        positions, items = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for firings in batch.layers:
            position = _numpy(firings.row) * n_pos + _numpy(firings.pos)
            active += np.bincount(position, minlength=len(active))
            item = self._place[firings.layer][_numpy(firings.feature)]
            positions.append(position[item >= 0])
            items.append(item[item >= 0])
        self._count(TOKEN, np.concatenate(positions), np.concatenate(items))
        self._count_lengths(TOKEN, active[_numpy(batch.eligible.flatten())])

    def _add_documents(self, batch: WindowBatch) -> None:
        documents = _numpy(batch.document)
        if not len(documents):
            return
        if documents[0] != self._open_document:
            self._close()
        document_of_row = np.concatenate([[0], np.cumsum(documents[1:] != documents[:-1])])
        n_closed = int(document_of_row[-1])
        length, items, places = np.zeros(n_closed, np.int64), [], []
        for firings in batch.layers:
            place = self._place[firings.layer]
            held = np.zeros((n_closed + 1, len(place)), bool)
            held[document_of_row[_numpy(firings.row)], _numpy(firings.feature)] = True
            held[0] |= self._seen[firings.layer]
            # the last document may go on
            self._seen[firings.layer] = held[-1].copy()
            length += held[:-1].sum(1)
            document, chosen = np.nonzero(held[:-1][:, place >= 0])
            places.append(document)
            items.append(place[place >= 0][chosen])
        self._open_document = int(documents[-1])
        self._count_lengths(DOCUMENT, length)
        self._count(DOCUMENT, np.concatenate(places), np.concatenate(items))

    def _close(self) -> None:
        """Count the open document and forget it."""
        if self._open_document is None:
            return
        self._open_document = None
        self._count_lengths(DOCUMENT, np.array([sum(int(seen.sum()) for seen in self._seen)]))
        held = [place[seen & (place >= 0)] for place, seen in zip(self._place, self._seen, strict=True)]
        items = np.concatenate(held)
        self._count(DOCUMENT, np.zeros(len(items), np.int64), items)
        self._seen = [np.zeros_like(seen) for seen in self._seen]

    def _count(self, grain: str, positions: Ints, items: Ints) -> None:
        """Add what items share; positions in any order, each item once at one."""
        order = np.argsort(positions, kind="stable")
        positions, items = positions[order], items[order]
        distinct, place = np.unique(positions, return_inverse=True)
        for first in range(0, len(distinct), N_POSITIONS_AT_ONCE):
            low, high = np.searchsorted(place, [first, first + N_POSITIONS_AT_ONCE])
            shape = (min(N_POSITIONS_AT_ONCE, len(distinct) - first), len(self._chosen))
            held = sparse.csr_array(
                (np.ones(high - low, np.int64), (place[low:high] - first, items[low:high])), shape=shape
            )
            shared = (held.T @ held).tocoo()
            self._support[grain][shared.coords] += shared.data

    def _count_lengths(self, grain: str, lengths: Ints) -> None:
        counts = np.bincount(lengths, minlength=len(self._lengths[grain]))
        counts[: len(self._lengths[grain])] += self._lengths[grain]
        self._lengths[grain] = counts

    def _pairs(self, grain: str) -> pl.DataFrame:
        first, second = np.nonzero(np.triu(self._support[grain]))
        chosen = np.array(self._chosen, np.int64).reshape(-1, 2)
        return pl.DataFrame(
            {
                "grain": [grain] * len(first),
                "layer_a": chosen[first, 0],
                "feature_a": chosen[first, 1],
                "layer_b": chosen[second, 0],
                "feature_b": chosen[second, 1],
                "support": self._support[grain][first, second],
            },
            schema=PAIRS_SCHEMA,
        )

    def _length_rows(self, grain: str) -> pl.DataFrame:
        length = np.flatnonzero(self._lengths[grain])
        columns = {"grain": [grain] * len(length), "length": length, "n": self._lengths[grain][length]}
        return pl.DataFrame(columns, schema=LENGTHS_SCHEMA)


def _numpy(values: Int[Tensor, "*shape"] | torch.Tensor) -> npt.NDArray:
    return values.cpu().numpy()
