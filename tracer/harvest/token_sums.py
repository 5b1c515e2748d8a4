"""Which tokens each feature fires on, right after, and right before; how often all that could have been."""

from collections.abc import Callable, Mapping

import polars as pl
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tracer.harvest.feature_sums import as_frame
from tracer.harvest.key_counts import KeyCounts
from tracer.harvest.windows import PADDING, WindowBatch

_OFFSETS = {"n_at": 0, "n_before": -1, "n_after": 1}


class TokenSums:
    """`feature_token_sums` and `token_sums`; tokens in front of a window, or behind it, do not count."""

    def __init__(
        self, n_features: Mapping[int, int], d_vocab: int, token_text: Callable[[int], str], device: torch.device
    ) -> None:
        self._d_vocab, self._token_text = d_vocab, token_text
        self._n_features = dict(n_features)
        self._by_feature = {layer: {name: KeyCounts() for name in _OFFSETS} for layer in n_features}
        self._seen = torch.zeros(d_vocab, dtype=torch.bool, device=device)
        self._places = {name: torch.zeros(d_vocab, dtype=torch.int64, device=device) for name in _OFFSETS}

    def add(self, batch: WindowBatch) -> None:
        """As `Accumulator.add`."""
        self._seen[batch.token_ids[batch.token_ids != PADDING]] = True
        for name, offset in _OFFSETS.items():
            tokens, is_there = _shifted(batch.token_ids, offset)
            self._places[name] += torch.bincount(tokens[batch.eligible & is_there], minlength=self._d_vocab)
            for firings in batch.layers:
                exists = is_there[firings.row, firings.pos]
                token, feature = tokens[firings.row, firings.pos], firings.feature
                if offset:
                    token, feature = token[exists], feature[exists]
                n_keys = self._n_features[firings.layer] * self._d_vocab
                self._by_feature[firings.layer][name].add(feature * self._d_vocab + token, n_keys)

    def tables(self) -> dict[str, pl.DataFrame]:
        """As `Accumulator.tables`."""
        counts = torch.stack(list(self._places.values()))
        found = self._seen.nonzero().flatten()
        totals = as_frame({"token_id": found} | {name: counts[row, found] for row, name in enumerate(_OFFSETS)})
        texts = [self._token_text(token_id) for token_id in found.tolist()]
        totals = totals.with_columns(pl.Series("token", texts, dtype=pl.String))
        return {
            "feature_token_sums": pl.concat([self._rows(layer) for layer in self._by_feature]),
            "token_sums": totals.select("token_id", "token", *_OFFSETS),
        }

    def _rows(self, layer: int) -> pl.DataFrame:
        found = {name: counts.total() for name, counts in self._by_feature[layer].items()}
        keys = torch.cat([own.cpu() for own, _ in found.values()]).unique()  # where nothing occurred there is no device
        columns = {"layer": torch.full_like(keys, layer)}
        columns |= {"feature": keys // self._d_vocab, "token_id": keys % self._d_vocab}
        for name, (own, n) in found.items():
            columns[name] = torch.zeros_like(keys)
            columns[name][torch.searchsorted(keys, own.cpu())] = n.cpu()
        return as_frame(columns)


def _shifted(
    token_ids: Int[Tensor, "window pos"], offset: int
) -> tuple[Int[Tensor, "window pos"], Bool[Tensor, "window pos"]]:
    """For each position the token `offset` positions away, and whether there is one."""
    shifted = torch.full_like(token_ids, PADDING)
    if offset < 0:
        shifted[:, -offset:] = token_ids[:, :offset]
    elif offset > 0:
        shifted[:, :-offset] = token_ids[:, offset:]
    else:
        shifted.copy_(token_ids)
    return shifted.clamp(min=0), shifted != PADDING
