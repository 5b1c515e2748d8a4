"""Windows as rows, and hashes of the text in front of positions that do not see case, digits and punctuation."""

import hashlib
from collections.abc import Callable

import polars as pl
import torch
from jaxtyping import Int
from torch import Tensor

from tracer.harvest.feature_sums import as_frame
from tracer.harvest.hashing import hashed, is_drawn
from tracer.harvest.key_counts import KeyCounts
from tracer.harvest.windows import PADDING, WindowBatch

_NOTHING = 0
N_TEXT_TOKENS = 8
"""Tokens by which two firings are told to be of one text."""


def plain_text(token: str) -> str:
    """A token without case, white space and punctuation, every digit a 0; empty where nothing is left."""
    return "".join("0" if character.isdigit() else character for character in token.casefold() if character.isalnum())


def token_hashes(d_vocab: int, token_text: Callable[[int], str]) -> Int[Tensor, " vocab"]:
    """For each token the hash of its plain text; 0 where nothing is left of it."""

    def of(token_id: int) -> int:
        text = plain_text(token_text(token_id))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True) if text else _NOTHING

    return torch.tensor([of(token_id) for token_id in range(d_vocab)], dtype=torch.int64)


def text_hashes(token_ids: Int[Tensor, "window pos"], hashes: Int[Tensor, " vocab"]) -> Int[Tensor, "window pos"]:
    """For each position a hash of the plain texts of the last `N_TEXT_TOKENS` tokens, its own among them.

    What stands behind a position does not move it, so firings of equal text are near-duplicates. Where nothing is left
    of any of these tokens, they count as they are, or else all such firings would be of one text.

    Args:
        token_ids: tokens, `PADDING` behind shorter windows.
        hashes: as `token_hashes` gives them.
    """
    found = torch.where(token_ids == PADDING, _NOTHING, hashes.to(token_ids.device)[token_ids.clamp(min=0)])
    total = _summed(found)
    return torch.where(total == _NOTHING, _summed(token_ids - PADDING), total)


def _summed(found: Int[Tensor, "window pos"]) -> Int[Tensor, "window pos"]:
    """For each position a hash of the last `N_TEXT_TOKENS` numbers, its own among them, without those of nothing."""
    total = torch.zeros_like(found)
    for back in range(min(N_TEXT_TOKENS, found.shape[1])):
        earlier = found[:, : found.shape[1] - back]
        total[:, back:] += torch.where(earlier != _NOTHING, hashed(earlier, back), 0)
    return total


class WindowTexts:
    """`harvest_windows`: every window with its tokens, and whether it is a reference window; `text_counts`: how often
    every text occurs in front of a position that could fire.
    """

    def __init__(self, hashes: Int[Tensor, " vocab"], *, reference_share: float, seed: int) -> None:
        self._hashes, self._share, self._seed = hashes, reference_share, seed
        self._frames: list[pl.DataFrame] = []
        self._texts = KeyCounts()

    def add(self, batch: WindowBatch) -> None:
        """As `Accumulator.add`."""
        texts = text_hashes(batch.token_ids, self._hashes)[batch.eligible]
        self._texts.add_counted(*texts.unique(return_counts=True))
        lengths = (batch.token_ids != PADDING).sum(1).tolist()
        rows = batch.token_ids.tolist()
        frame = pl.DataFrame({
            "document_key": batch.document.cpu().numpy(),
            "window_start": batch.start.cpu().numpy(),
            "is_reference": reference_windows(batch, self._share, self._seed).cpu().numpy(),
        })
        tokens = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        self._frames.append(frame.with_columns(pl.Series("token_ids", tokens, dtype=pl.List(pl.Int64))))

    def tables(self) -> dict[str, pl.DataFrame]:
        """As `Accumulator.tables`."""
        texts, n = self._texts.total()
        return {"harvest_windows": pl.concat(self._frames), "text_counts": as_frame({"text_hash": texts, "n": n})}


def reference_windows(batch: WindowBatch, share: float, seed: int) -> Tensor:
    """Which windows of a batch are reference windows: a share of all, drawn by hash of seed, document and place."""
    return is_drawn(hashed(batch.document, batch.start, seed), share)


class ReferenceFirings:
    """`reference_firings`: what fires in each reference window, and where most; by it windows without a feature are
    chosen.
    """

    def __init__(self, *, reference_share: float, seed: int) -> None:
        self._share, self._seed = reference_share, seed
        self._frames: list[pl.DataFrame] = []

    def add(self, batch: WindowBatch) -> None:
        """As `Accumulator.add`."""
        is_reference = reference_windows(batch, self._share, self._seed)
        for firings in batch.layers:
            chosen = is_reference[firings.row]
            found = pl.DataFrame({
                "row": firings.row[chosen].cpu().numpy(),
                "feature": firings.feature[chosen].cpu().numpy(),
                "pos": firings.pos[chosen].cpu().numpy(),
                "activation": firings.value[chosen].cpu().numpy(),
            })
            peaks = (
                found
                .sort(["row", "feature", "activation", "pos"], descending=[False, False, True, False])
                .unique(["row", "feature"], keep="first", maintain_order=True)
                .group_by("row", maintain_order=True)
                .agg(pl.col("feature").alias("features"), "pos")
            )
            rows = peaks["row"].to_numpy()
            columns = {
                "document_key": batch.document.cpu().numpy()[rows],
                "window_start": batch.start.cpu().numpy()[rows],
                "layer": [firings.layer] * len(rows),
            }
            schema = dict.fromkeys(columns, pl.Int64)
            self._frames.append(pl.DataFrame(columns, schema=schema).hstack(peaks.select("features", "pos")))

    def tables(self) -> dict[str, pl.DataFrame]:
        """As `Accumulator.tables`."""
        return {"reference_firings": pl.concat(self._frames)}
